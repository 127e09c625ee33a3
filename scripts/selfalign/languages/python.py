"""Python."""

from selfalign.languages.language import Language

# Modules that make no sense in a sandbox without network, display, other processes and packages of services
NOT_FOR_SANDBOX = (
    # network
    *("aiohttp", "asyncore", "asynchat", "ftplib", "grpc", "http.client", "http.server", "httpx", "imaplib", "nntplib"),
    *("paramiko", "poplib", "requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib", "tornado", "twisted"),
    *("urllib.request", "urllib2", "urllib3", "webbrowser", "websocket", "websockets", "xmlrpc", "zmq"),
    # other processes, the machine, foreign code
    *("_winapi", "cffi", "ctypes", "fabric", "fcntl", "multiprocessing", "pexpect", "psutil", "pty", "pwd", "resource"),
    *(
        "sh",
        "signal",
        "subprocess",
        "syslog",
        "termios",
        "tty",
        "winreg",
        "win32api",
        "win32con",
        "win32gui",
        "winsound",
    ),
    # display, sound, devices
    *("PyQt4", "PyQt5", "PyQt6", "PySide2", "PySide6", "bokeh", "curses", "cv2", "gi", "gtk", "kivy", "matplotlib"),
    *("plotly", "pyautogui", "pygame", "pyglet", "pynput", "RPi", "seaborn", "serial", "sounddevice", "tkinter"),
    *("turtle", "usb", "vtk", "wx"),
    # services and databases
    *("azure", "boto", "boto3", "botocore", "cassandra", "docker", "elasticsearch", "google.cloud", "googleapiclient"),
    *("kafka", "kubernetes", "MySQLdb", "openstack", "pika", "psycopg2", "pymongo", "pymysql", "redis", "selenium"),
    *("slack", "slack_sdk", "stripe", "telegram", "tweepy", "twilio"),
    # frameworks and the making of packages: nothing works without their project
    *("django", "fastapi", "flask", "IPython", "jupyter", "notebook", "pyramid", "scrapy", "streamlit"),
    *("conda", "distutils", "pip", "pkg_resources", "setuptools"),
)

PYTHON = Language(
    key="python",
    name="Python",
    fences=("python", "py"),
    suffixes=(".py",),
    comment="#",
    filters=frozenset(
        {
            *("returns_value", "has_argument", "size", "bad_words", "sandbox_imports", "licences", "infer_imports"),
            *("docstring_quality", "type_check", "docstring_judge"),
        }
    ),
    checkers=("ty", "pyrefly", "zuban", "pyright", "basedpyright"),
    default_checkers=("ty", "basedpyright"),
    not_for_sandbox=NOT_FOR_SANDBOX,
)
