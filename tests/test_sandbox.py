"""The sandbox, run for real: every line of its covered list meets hostile programs, and correct programs pass."""

import ctypes
import errno
import multiprocessing
import os
import shutil
import struct

import pytest

from selfalign.records.rows import Verdict
from selfalign.sandbox import VERDICTS, Program, Sandbox, SandboxSettings
from selfalign.sandbox.build import core_file
from selfalign.sandbox.inside import filter, python_core

SETTINGS = SandboxSettings(cpu_s=1.0, wall_factor=3.0, memory_mb=256, output_kb=256, disk_mb=4)

# line of the covered list: {name: (verdict, code)}; two verdicts where the cores differ: Python's, C's
HOSTILE = {
    "leaving early": {
        "sys.exit": ("early_exit", "import sys\nassert 1 == 1\nsys.exit(0)\nassert 1 == 2\n"),
        "quit": ("early_exit", "quit()\nassert 1 == 2\n"),
        "os._exit": ("early_exit", "import os\nos._exit(0)\nassert 1 == 2\n"),
        "exit status at the end": ("early_exit", "import sys\nassert 1 == 1\nsys.exit(3)\n"),
        "empty text as exit status": ("early_exit", "import sys\nassert 1 == 1\nsys.exit('')\n"),
        "function under test in a loop of tests": (
            "early_exit",
            "def f(x):\n    if x > 1: exit()\n    return x\ndef check(candidate):\n"
            "    for x in (1, 2, 3):\n        result = candidate(x)\n        assert result == x\ncheck(f)\n",
        ),
        "function under test before an assertion": (
            "early_exit",
            "import sys\ndef f(x):\n    print(x)\n    if x > 1: sys.exit(0)\n"
            "def test():\n    assert f(1) is None\n    y = f(2)\n    assert y == 3\n"
            'if __name__ == "__main__":\n    test()\n',
        ),
        "function under test in the last assertion": (
            "early_exit",
            "import sys\ndef f(x): return x if x < 2 else sys.exit(0)\ndef check():\n    assert f(1) == 1\n"
            "    assert f(2) == 3\ncheck()\n",
        ),
        "before the main block's last assertion": (
            "early_exit",
            'import sys\nif __name__ == "__main__":\n    assert 1 == 1\n    sys.exit(0)\n    assert 1 == 2\n',
        ),
        "in an import": (
            "early_exit",
            "open('m.py', 'w').write('import sys; sys.exit(0)')\nassert 1 == 1\n"
            "if True:\n    import m\n    assert 1 == 2\n",
        ),
        "exception whose text raises": (
            "exception",
            "class E(Exception):\n    def __str__(self): raise OSError\nassert 1 == 1\nraise E()\n",
        ),
        "exception with an odd line": ("exception", "error = SyntaxError('x')\nerror.lineno = 'x'\nraise error\n"),
        "exception whose line exits": (
            "exception",
            "class E(SyntaxError):\n    @property\n    def lineno(self): raise SystemExit(0)\nraise E('x')\n",
        ),
        "thread": (
            "early_exit",
            "import os, threading, time\n"
            "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(0))).start()\ntime.sleep(2)\nassert 1 == 2\n",
        ),
        "at exit": ("assertion", "import atexit, os\natexit.register(os._exit, 0)\nassert 1 == 2\n"),
        "exception text": (
            "early_exit",
            "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\nassert 1 == 1\nraise E()\n",
        ),
        "abort": ("killed", "import os\nassert 1 == 1\nos.abort()\n"),
        "crash in C": ("killed", "import faulthandler\nassert 1 == 1\nfaulthandler._read_null()\n"),
        "main of the solution before the tests": (
            "early_exit",
            'import sys\ndef f(): return 1\nif __name__ == "__main__":\n    sys.exit(0)\nassert f() == 2\n',
        ),
    },
    "nothing tested": {
        "nothing": ("no_tests", "def add(a, b):\n    return a + b\n"),
        "empty": ("no_tests", ""),
        "prose": ("no_tests", "# I would test this carefully.\n"),
        "test with arguments never called": ("no_tests", "def test_f(fixture):\n    assert fixture == 1\n"),
        "tuple": ("no_tests", "assert (1 == 2, 'message')\n"),
        "constant": ("no_tests", "assert True\nassert 'no'\nassert lambda: False\n"),
        "recorder called with negative numbers": (
            "no_tests",
            "import unittest\nfor cell in unittest.TestResult.startTest.__closure__:\n"
            "    if hasattr(cell.cell_contents, 'count'): cell.cell_contents.count(-5, -5)\n",
        ),
        "jumped over": (
            ("no_tests", "assertion"),
            "import sys\n"
            "def trace(frame, event, argument):\n"
            "    if event == 'line' and frame.f_lineno == 6: frame.f_lineno = 7\n    return trace\n"
            "sys._getframe().f_trace = trace; sys.settrace(trace)\n"
            "assert 1 == 2\nx = 1\n",
        ),
        "jumped over among others": (
            ("early_exit", "assertion"),
            "import sys\n"
            "def trace(frame, event, argument):\n"
            "    if event == 'line' and frame.f_lineno == 7: frame.f_lineno = 8\n    return trace\n"
            "sys._getframe().f_trace = trace; sys.settrace(trace)\n"
            "assert 1 == 1\nassert 1 == 2\nx = 1\n",
        ),
        "empty unittest case": (
            "no_tests",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\nunittest.main()\n",
        ),
        "skipped unittest case": (
            "no_tests",
            "import unittest\nclass T(unittest.TestCase):\n"
            "    @unittest.skip('later')\n    def test_a(self): self.assertEqual(1, 2)\nunittest.main()\n",
        ),
        "dead branch": ("no_tests", "if False:\n    assert 1 == 1\n"),
    },
    "swallowed failures": {
        "except AssertionError": (
            "swallowed_assertion",
            "try:\n    assert 1 == 2\nexcept AssertionError:\n    print('failed')\nassert 1 == 1\n",
        ),
        "bare except in a test": (
            "swallowed_assertion",
            "def test():\n    try:\n        assert 1 == 2\n    except:\n        pass\ntest()\nassert 1 == 1\n",
        ),
        "helper inside a test": (
            "swallowed_assertion",
            "def test():\n    def expect(x):\n        assert x == 2\n    try:\n        expect(1)\n"
            "    except Exception: pass\ntest()\n",
        ),
        "suppress": (
            "swallowed_assertion",
            "import contextlib\nwith contextlib.suppress(AssertionError):\n    assert 1 == 2\n",
        ),
        "return in finally": (
            "swallowed_assertion",
            "def test():\n    try:\n        assert 1 == 2\n    finally:\n        return\ntest()\nassert 1 == 1\n",
        ),
        "exception group": ("swallowed_assertion", "try:\n    assert 1 == 2\nexcept* AssertionError: pass\n"),
        "empty text": (
            "swallowed_assertion",
            "x = ''\ntry:\n    assert f'{x}'\nexcept AssertionError: pass\nassert 1 == 1\n",
        ),
        "results of tasks": (
            "swallowed_assertion",
            "import asyncio\nasync def test(): assert 1 == 2\nasync def main():\n"
            "    await asyncio.gather(test(), return_exceptions=True)\nasyncio.run(main())\nassert 1 == 1\n",
        ),
        "assertion of a thread's own function": (
            "swallowed_assertion",
            "import threading\ndef work(): assert 1 == 2\n"
            "t = threading.Thread(target=work); t.start(); t.join()\nassert 1 == 1\n",
        ),
        "unittest fail": (
            "swallowed_assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 1)\n"
            "        try: self.fail('no error')\n        except Exception: pass\nunittest.main()\n",
        ),
        "unittest context": (
            "swallowed_assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        try:\n"
            "            with self.assertRaises(ValueError): pass\n        except AssertionError: pass\n"
            "unittest.main()\n",
        ),
        "awaited mock": (
            "swallowed_assertion",
            "from unittest.mock import AsyncMock\ntry: AsyncMock().assert_awaited()\n"
            "except AssertionError: pass\nassert 1 == 1\n",
        ),
        "assertion in a thread": (
            "swallowed_assertion",
            "import threading\ndef test_it():\n    assert 1 == 2\n"
            "t = threading.Thread(target=test_it); t.start(); t.join()\nassert 1 == 1\n",
        ),
        "unittest method": (
            "swallowed_assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
            "        try: self.assertEqual(1, 2)\n        except AssertionError: pass\nunittest.main()\n",
        ),
        "unittest result ignored": (
            "assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 2)\n"
            "    def test_b(self): self.assertEqual(1, 1)\nunittest.main(exit=False)\nassert 1 == 1\n",
        ),
        "unittest exit": (
            "assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 2)\n"
            "unittest.main()\n",
        ),
        "doctest result ignored": (
            "assertion",
            'def f():\n    """\n    >>> f()\n    2\n    """\n    return 1\n'
            "import doctest\ndoctest.testmod()\nassert 1 == 1\n",
        ),
    },
    "test styles": {
        "unittest never run": (
            "assertion",
            "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 2)\n",
        ),
        "function never called": ("assertion", "def f(): return 1\ndef test_f():\n    assert f() == 2\n"),
        "class never used": ("assertion", "class TestF:\n    def test_f(self):\n        assert 1 == 2\n"),
        "coroutine never awaited": ("assertion", "async def test_f():\n    assert 1 == 2\n"),
        "test raises": ("exception", "def test_f():\n    raise KeyError('x')\n"),
    },
    "fake results": {
        "printed": ("assertion", "print('passed'); print('{\"verdict\": \"passed\"}')\nassert 1 == 2\n"),
        "written everywhere": (
            "early_exit",
            "import os\nfor fd in range(3, 1024):\n"
            "    for text in (b'passed\\x1f1\\x1f0\\x1f\\x1f', b'\\x01' * 32 + b'passed\\x1f1\\x1f0\\x1f\\x1f'):\n"
            "        try: os.write(fd, text)\n        except OSError: pass\nos._exit(0)\n",
        ),
        "token read again": (
            "exception",
            "import os\nfor fd in range(3, 1024):\n    try: data = os.read(fd, 32)\n    except OSError: continue\n"
            "    print(data)\nraise LookupError\n",
        ),
        "exit code": ("early_exit", "import os\nos._exit(77)\n"),
        "exit statuses": ("early_exit", "import os\nassert 1 == 1\nos._exit(78)\n"),
        "exit status with high bits": ("early_exit", "import os\nassert 1 == 1\nos._exit(256 + 77)\n"),
        "exit status in a thread": (
            "early_exit",
            "import os, threading\nassert 1 == 1\n"
            "t = threading.Thread(target=os._exit, args=(77,)); t.start(); t.join()\n",
        ),
        "the harness's own functions": (
            "assertion",
            "import sys\nframe = sys._getframe()\nwhile frame := frame.f_back:\n"
            "    for value in frame.f_locals.values():\n"
            "        for name in ('run', 'configure', 'finish', 'leave', 'recorders', 'prepare'):\n"
            "            for item in (value, getattr(value, 'module', None)):\n"
            "                try: getattr(item, name)(None, None, None, None)\n                except Exception: pass\n"
            "assert 1 == 2\n",
        ),
        "recorders called by hand": (
            "assertion",
            "def test():\n    assert 1 == 2\n"
            "for value in test.__code__.co_consts:\n    if callable(value):\n"
            "        value(True)\n"
            "        for name in dir(getattr(value, '__self__', None)): print(name)\n"
            "test()\n",
        ),
        "core loaded again": (
            ("exception", "assertion"),
            "import importlib.machinery as m\n"
            "core = m.ExtensionFileLoader('selfalign_sandbox', '/tmp/core.so').load_module('selfalign_sandbox')\n"
            "for name in dir(core):\n    for arguments in ((), (1,), (9, 9), (None, print, {}, 0)):\n"
            "        try: getattr(core, name)(*arguments)\n        except Exception: pass\n"
            "assert 1 == 2\n",
        ),
        "harness imported again": ("exception", "import sys\nsys.path.append('/tmp')\nimport inside.server\n"),
        "closed descriptors": (("early_exit", "passed"), "import os\nos.closerange(3, 1024)\nassert 1 == 1\n"),
    },
    "the harness": {
        "frames": (
            "exception",
            "import sys\nframe = sys._getframe()\nfound = []\nwhile frame:\n"
            "    found += [v for v in frame.f_locals.values() if isinstance(v, bytes) and len(v) == 32]\n"
            "    frame = frame.f_back\nraise LookupError(len(found))\n",
        ),
        "frames' namespaces": (
            "assertion",
            "import sys\nframe = sys._getframe()\nwhile frame := frame.f_back:\n"
            "    for name, value in list(frame.f_globals.items()):\n"
            "        if callable(value): frame.f_globals[name] = lambda *a, **k: b'passed\\x1f1\\x1f0\\x1f\\x1f'\n"
            "    for name in ('BaseException', 'dict', 'globals', 'isinstance', 'str', 'type', 'getattr', 'next'):\n"
            "        frame.f_builtins[name] = None\n"
            "assert 1 == 2\n",
        ),
        "code of the harness": (
            ("exception", "assertion"),
            "import sys\nframe = sys._getframe()\nwhile frame := frame.f_back:\n"
            "    for name, value in list(frame.f_globals.items()):\n"
            "        if hasattr(value, '__code__') and value.__globals__ is frame.f_globals:\n"
            "            value.__code__ = (lambda *a: b'passed\\x1f1\\x1f0\\x1f\\x1f').__code__\nassert 1 == 2\n",
        ),
        "gc objects": ("exception", "import gc\nfor o in gc.get_objects(): print(o)\nassert 1 == 1\n"),
        "gc referrers": ("exception", "import gc\nprint(gc.get_referrers(b''))\nassert 1 == 1\n"),
        "other threads' frames": ("exception", "import sys\nsys._current_frames()\nassert 1 == 1\n"),
        "patched builtins": (
            "assertion",
            "import builtins\nfor name in ('isinstance', 'len', 'type', 'str', 'AssertionError', 'print', 'next'):\n"
            "    setattr(builtins, name, lambda *a: True)\nassert 1 == 2\n",
        ),
        "patched modules": (
            "assertion",
            "import os, posix, sys, json, traceback\nos._exit = os.write = posix.write = json.dumps = lambda *a: None\n"
            "traceback.walk_tb = lambda tb: []\nsys.settrace = print\nassert 1 == 2\n",
        ),
        "the harness again": (
            "exception",
            "import sys\nfor name, module in list(sys.modules.items()):\n"
            "    for key in ('serve', 'run_program', 'guard'):\n"
            "        if hasattr(module, key): getattr(module, key)()\nraise LookupError\n",
        ),
        "ctypes": ("exception", "import ctypes\nassert 1 == 1\n"),
        "ctypes under another name": (
            "exception",
            "import glob, importlib.machinery as m, os\n"
            "[path] = glob.glob(os.path.dirname(os.__file__) + '/lib-dynload/_ctypes.*')\n"
            "m.ExtensionFileLoader('x._ctypes', path).load_module('x._ctypes')\nassert 1 == 1\n",
        ),
        "code that no compiler made": (
            ("passed", "exception"),
            "def f(): return 1\nf.__code__ = f.__code__.replace(co_name='g')\nassert f() == 1\n",
        ),
        "code read from bytes": (
            ("passed", "exception"),
            "import marshal\nmarshal.loads(marshal.dumps(1))\nassert 1 == 1\n",
        ),
        "code read by the import system": (
            ("passed", "exception"),
            "import importlib._bootstrap_external as b, marshal, os\n"
            "code = marshal.dumps(compile('x = 1', 'x', 'exec'))\n"
            "b._compile_bytecode(code, 'os', os.__spec__.cached)\nassert 1 == 1\n",
        ),
        "compiled module of its own": (
            ("passed", "exception"),
            "import py_compile\nopen('m.py', 'w').write('x = 1')\npy_compile.compile('m.py', 'n.pyc')\n"
            "import n\nassert n.x == 1\n",
        ),
        "a library of its own": (
            "exception",
            "import importlib.machinery as m, os, shutil, _lsprof\nshutil.copy(_lsprof.__file__, 'own.so')\n"
            "m.ExtensionFileLoader('own', os.path.abspath('own.so')).load_module('own')\nassert 1 == 1\n",
        ),
        "executable memory": (
            "exception",
            "import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\nassert 1 == 1\n",
        ),
        "memory file": ("exception", "open('/proc/self/mem', 'r+b')\nassert 1 == 1\n"),
    },
    "resources": {
        "loop": ("timeout_cpu", "while True: pass\n"),
        "loop in C": ("timeout_cpu", "sum(range(10 ** 12))\nassert 1 == 1\n"),
        "big power": ("timeout_cpu", "x = 9 ** (9 ** 8)\nassert 1 == 1\n"),
        "swallows everything": (
            "timeout_cpu",
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n",
        ),
        "ignored signals": (
            "timeout_cpu",
            "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except (OSError, ValueError): pass\nwhile True: pass\n",
        ),
        "two threads": (
            "timeout_cpu",
            "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()\nf()\n",
        ),
        "sleep": ("timeout_wall", "import time\ntime.sleep(3600)\nassert 1 == 1\n"),
        "thread that never ends": (
            "timeout_wall",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()\nassert 1 == 1\n",
        ),
        "memory at once": ("memory", "x = [0] * 10 ** 10\nassert 1 == 1\n"),
        "memory bit by bit": ("memory", "x = []\nwhile True: x.append(bytearray(1 << 20))\n"),
        "memory of a long text": ("memory", "x = 'x' * 2 ** 40\nassert 1 == 1\n"),
        "threads": (
            "exception",
            "import threading, time\nwhile True:\n"
            "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
        ),
        "fork": ("exception", "import os\nwhile True: os.fork()\n"),
        "disk": ("exception", "with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))\n"),
        "disk in many files": (
            "exception",
            "for n in range(1000):\n    with open(f'{n}', 'wb') as f: f.write(bytes(1 << 16))\nassert 1 == 1\n",
        ),
        "shared memory": (
            "exception",
            "for n in range(1000):\n    with open(f'/dev/shm/{n}', 'wb') as f: f.write(bytes(1 << 16))\n"
            "assert 1 == 1\n",
        ),
        "inodes": ("exception", "for n in range(20000): open(f'{n}', 'w').close()\nassert 1 == 1\n"),
        "descriptors": ("exception", "import os\nwhile True: os.dup(1)\n"),
        "memory without a file": ("exception", "import os\nos.memfd_create('x')\nassert 1 == 1\n"),
        "output": ("output_limit", "while True: print('x' * 1000)\n"),
        "output past Python": ("output_limit", "import os\nwhile True: os.write(2, b'x' * 65536)\n"),
        "output just too much": ("output_limit", "print('x' * 300 * 1024)\nassert 1 == 1\n"),
        "deep brackets": ("syntax", "x = " + "(" * 100_000),
        "null byte": ("syntax", "x = '\0'\n"),
        "lone surrogate": ("syntax", "x = '\ud800'\n"),
        "recursion": ("exception", "def f(): return f()\nf()\n"),
        "limits raised": (
            "exception",
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nassert 1 == 1\n",
        ),
        "limits lowered": (
            "exception",
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass\n",
        ),
    },
    "the host": {
        "network": ("exception", "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)\nassert 1 == 1\n"),
        "name service": (
            "exception",
            "import socket\nsocket.getaddrinfo('localhost.localdomain', 80)\nassert 1 == 1\n",
        ),
        "sockets of the machine": ("exception", "import socket\nsocket.socket(socket.AF_VSOCK)\nassert 1 == 1\n"),
        "host file": ("exception", "open('/etc/passwd').read()\nassert 1 == 1\n"),
        "root's home": ("exception", "import os\nos.listdir('/home')\nassert 1 == 1\n"),
        "host folder": ("exception", "open('/usr/lib/canary', 'w')\nassert 1 == 1\n"),
        "root folder": ("exception", "open('/canary', 'w')\nassert 1 == 1\n"),
        "environment": ("exception", "import os\nos.environ['SELFALIGN_SECRET']\n"),
        "environment of others": ("exception", "open('/proc/1/environ').read()\nassert 1 == 1\n"),
        "proc": ("exception", "import os\nos.listdir('/proc')\nassert 1 == 1\n"),
        "core pattern": ("exception", "open('/proc/sys/kernel/core_pattern', 'w')\nassert 1 == 1\n"),
        "sys": ("exception", "import os\nos.listdir('/sys')\nassert 1 == 1\n"),
        "devices": ("exception", "open('/dev/mem', 'rb')\nassert 1 == 1\n"),
        "made devices": ("exception", "import os, stat\nos.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))\n"),
        "kill the parent": ("assertion", "import os\nos.kill(0, 9)\nassert 1 == 2\n"),
        "kill everybody": ("exception", "import os\nos.kill(-1, 9)\nassert 1 == 2\n"),
        "kill the server": ("exception", "import os\nos.kill(2, 9)\nassert 1 == 2\n"),
        "exec": ("exception", "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'pass'])\n"),
        "spawn": ("exception", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])\nassert 1 == 1\n"),
        "become root": ("exception", "import os\nos.setuid(0)\nassert 1 == 1\n"),
        "chroot": ("exception", "import os\nos.chroot('.')\nassert 1 == 1\n"),
        "host name": ("exception", "import socket\nsocket.sethostname('x')\nassert 1 == 1\n"),
        "standard input": ("exception", "x = input()\nassert x\n"),
    },
}

CORRECT = {
    "recursion": "def f(n): return 1 if n < 2 else n * f(n - 1)\nassert f(5) == 120\n",
    "helpers": "def g(x): return x + 1\ndef f(x): return g(x) * 2\nassert f(1) == 4\n",
    "import in a function": "def f(x):\n    import math\n    return math.floor(x)\nassert f(1.5) == 1\n",
    "files in the working folder": (
        "import os, pathlib, tempfile\nassert os.listdir('.') == []\n"
        "with open('t.txt', 'w') as f: f.write('hi')\nassert pathlib.Path('t.txt').read_text() == 'hi'\n"
        "os.remove('t.txt')\nwith tempfile.TemporaryDirectory() as d: assert os.path.isdir(d)\n"
    ),
    "module in the working folder": (
        "with open('helper_module.py', 'w') as f: f.write('x = 3')\nimport helper_module\nassert helper_module.x == 3\n"
    ),
    "dataclass": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport typing\n"
        "@dataclass\nclass P:\n    x: int\nassert P(x=1) == P(1)\nassert typing.get_type_hints(P) == {'x': int}\n"
    ),
    "asyncio": (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 1\nassert asyncio.run(f()) == 1\n"
    ),
    "threads": (
        "import threading\nr = []\nts = [threading.Thread(target=r.append, args=(i,)) for i in range(8)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]\nassert sorted(r) == list(range(8))\n"
    ),
    "executor": (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool:\n"
        "    assert list(pool.map(abs, [-1, 2])) == [1, 2]\n"
    ),
    "main guard": 'def f(): return 1\nif __name__ == "__main__":\n    assert f() == 1\n',
    "exit at the very end": "import sys\ndef main():\n    assert 1 == 1\n    return 0\nsys.exit(main())\n",
    "exit in main's last branch": (
        "import sys\ndef main():\n    ok = 1 == 1\n    assert ok is True\n    if ok:\n        sys.exit(0)\n"
        "    else:\n        sys.exit(1)\nmain()\n"
    ),
    "unreachable line after unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 1)\n"
        'if __name__ == "__main__":\n    unittest.main()\n    print("done")\n'
    ),
    "pickle of a class": (
        "import pickle\nclass A:\n    x = 1\nassert pickle.loads(pickle.dumps(A())).x == 1\n"
        "assert A.__module__ == '__main__'\n"
    ),
    "source": "import inspect\ndef f():\n    return 41\nclass A: pass\nassert '41' in inspect.getsource(f)\n"
    "assert 'class A' in inspect.getsource(A)\n",
    "captured output": (
        "import io, contextlib\nb = io.StringIO()\nwith contextlib.redirect_stdout(b): print('x')\n"
        "assert b.getvalue() == 'x\\n'\n"
    ),
    "closed output": "import sys\nsys.stdout.close()\nassert 1 == 1\n",
    "much output": "print('x' * 200_000)\nassert 1 == 1\n",
    "long expression": "assert " + " + ".join(["1"] * 900) + " == 900\n",
    "expected failure": (
        "def f(x):\n    assert x > 0, 'positive'\n    return x\ntry:\n    f(-1)\nexcept AssertionError as error:\n"
        "    message = str(error)\nassert message == 'positive'\n"
    ),
    "assertion error with a message": (
        "try:\n    int('x')\n    assert False, 'no error'\nexcept ValueError:\n    ok = True\nassert ok is True\n"
    ),
    "unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 1)\n"
        "        with self.assertRaises(ZeroDivisionError): 1 / 0\n"
        "        for n in range(3):\n            with self.subTest(n=n): self.assertLess(n, 3)\n"
        'if __name__ == "__main__":\n    unittest.main()\n'
    ),
    "unittest never run": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 1)\n"
    ),
    "unittest's names imported": (
        "from unittest import *\nclass T(TestCase):\n    def test_a(self): self.assertEqual(1, 1)\n"
    ),
    "unittest with a runner": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertTrue(True)\n"
        "suite = unittest.TestLoader().loadTestsFromTestCase(T)\nresult = unittest.TextTestRunner().run(suite)\n"
    ),
    "mock": "from unittest.mock import Mock\nm = Mock()\nm(1)\nm.assert_called_once_with(1)\n",
    "awaited mock": (
        "import asyncio\nfrom unittest.mock import AsyncMock\nm = AsyncMock()\nasyncio.run(m(2))\n"
        "m.assert_awaited_once_with(2)\n"
    ),
    "doctest": (
        'def f():\n    """\n    >>> f()\n    1\n    """\n    return 1\n'
        "import doctest\nfailures, _ = doctest.testmod()\n"
    ),
    "test function never called": "def f(): return 1\ndef test_f():\n    assert f() == 1\n",
    "test class never used": "class TestF:\n    def test_f(self):\n        assert 1 == 1\n",
    "test class with set-up": (
        "class TestF:\n    @classmethod\n    def setup_class(cls): cls.x = 1\n"
        "    def setup_method(self, method): self.y = method.__name__\n"
        "    def test_f(self):\n        assert (self.x, self.y) == (1, 'test_f')\n"
    ),
    "test that deletes itself": (
        "def test_f():\n    del globals()['test_f']\n    assert [type('T', (), {}) for _ in range(50)]\n"
    ),
    "byte order mark": "\ufeffassert 1 == 1\n",
    "old line ends": "def f():\r    return 1\r\nassert f() == 1\r",
    "source behind odd line ends": (
        "import inspect\n\x0c\nx = '\u2028\x85\x1c'\ndef f():\n    return 41\n"
        "assert inspect.getsource(f) == 'def f():\\n    return 41\\n'\n"
    ),
    "local sockets": (
        "import socket\na, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
        "assert socket.create_connection(s.getsockname())\n"
    ),
    "test coroutine": "async def test_f():\n    assert 1 == 1\n",
    "assert helper": "def expect(a, b):\n    assert a == b\nexpect(1, 1)\n",
    "same hash and random numbers": (
        "import random\nassert hash('selfalign') == 5446995912262081969\n"
        "assert random.random() == random.Random(0).random()\n"
    ),
    "frozen modules": (
        "import _imp, importlib\nnames = [n for n in _imp._frozen_module_names() if not n.startswith('__')]\n"
        "assert 'runpy' in names and all(importlib.import_module(n) for n in names)\n"
    ),
    "local time zone": "import time\nassert time.localtime(0).tm_hour == 0 and time.tzname[0] == 'UTC'\n",
    "zone names": "import zoneinfo\nassert zoneinfo.ZoneInfo('UTC').key == 'UTC'\n",
    "alarm": (
        "import signal\nclass T(Exception): pass\ndef handler(*a): raise T\nsignal.signal(signal.SIGALRM, handler)\n"
        "try:\n    signal.setitimer(signal.ITIMER_REAL, 0.01)\n    while True: pass\nexcept T:\n"
        "    done = True\nassert done is True\n"
    ),
    "trace function": (
        "import sys\nseen = []\ndef trace(frame, event, argument):\n    seen.append(event)\n"
        "sys.settrace(trace)\n(lambda: 1)()\nsys.settrace(None)\nassert 'call' in seen\n"
    ),
    "source compiled in its own process": "x = 1\n" * 20_000 + "def f(): return x\nassert f() == 1\n",
    "standard library": (
        "import sqlite3, decimal, hashlib, csv, zlib, heapq, bisect, statistics, fractions, uuid, logging, textwrap\n"
        "assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)\n"
        "assert hashlib.sha256(b'').hexdigest().startswith('e3b0c442')\n"
    ),
}

TABLE = [
    *((f"{line}: {name}", *case) for line, cases in HOSTILE.items() for name, case in cases.items()),
    *((f"correct: {name}", "passed", code) for name, code in CORRECT.items()),
]


CORES = ["python", pytest.param("c", marks=pytest.mark.skipif(core_file() is None, reason="the C core is not built"))]


@pytest.fixture(scope="module", params=CORES)
def core(request) -> str:
    """Run a test with each core."""
    return request.param


@pytest.fixture(scope="module")
def verdicts(core) -> dict:
    """Run the whole table once with each core, with a secret in our environment; verdicts by name."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SELFALIGN_SECRET", "leaked")
    programs = [Program(id=name, code=code) for name, _, code in TABLE]
    found = {verdict.id: verdict for verdict in Sandbox(SETTINGS, workers=2, core=core).run(programs)}
    patch.undo()
    return found


@pytest.mark.parametrize(("name", "expected"), [case[:2] for case in TABLE], ids=[case[0] for case in TABLE])
def test_verdict(verdicts, core, name, expected):
    if isinstance(expected, tuple):
        expected = expected[core == "c"]
    assert expected in VERDICTS
    assert verdicts[name].verdict == expected, verdicts[name]


def judge(code: str, tests: str = "", core: str | None = None, **settings) -> Verdict:
    [verdict] = Sandbox(SandboxSettings(**settings), core=core).run([Program(id="x", code=code, tests=tests)])
    return verdict


SOLUTION = "def f(x):\n    assert x > 0\n    return x\n"


@pytest.mark.parametrize(
    ("expected", "tests"),
    [
        ("passed", "assert f(1) == 1\n"),
        ("passed", "from __future__ import annotations\nassert f(1) == 1\n"),
        ("passed", "try:\n    f(-1)\nexcept AssertionError:\n    caught = True\nassert caught is True\n"),
        ("passed", "def test_f():\n    assert f(1) == 1\n"),
        ("no_tests", "f(1)\n"),  # the solution's own precondition is no evidence
        ("no_tests", "assert True\n"),
        ("assertion", "assert f(1) == 2\n"),
        ("assertion", "f(-1)\n"),
        ("swallowed_assertion", "def g():\n    assert f(1) == 2\ntry:\n    g()\nexcept AssertionError:\n    pass\n"),
        ("exception", "assert g(1) == 1\n"),
        ("syntax", "assert f(1 == 1\n"),
    ],
)
def test_separate_tests(expected, tests):
    assert judge(SOLUTION, tests).verdict == expected


@pytest.mark.parametrize(
    ("expected", "code", "tests"),
    [
        (
            "passed",
            "def check_age(a):\n    assert a >= 0\n",
            "try: check_age(-1)\nexcept AssertionError: ok = 1\nassert ok\n",
        ),
        ("passed", SOLUTION.replace("\n", "\r"), "try: f(-1)\nexcept AssertionError: ok = 1\nassert ok\n"),
        ("syntax", "def f(x): return x\nx = '''\n", "'''\nassert f(1) == 1\n"),
    ],
)
def test_where_tests_begin(core, expected, code, tests):
    assert judge(code, tests, core).verdict == expected


def test_detail_is_short_and_the_same_on_every_run():
    code = "import tempfile\nraise KeyError(tempfile.mkdtemp() + '/' + repr(object()) + 'x' * 9000)\n"
    first, second = judge(code), judge(code)
    assert first.detail == second.detail
    assert first.detail.startswith("KeyError: '/tmp/tmp…/<object object at 0x…>xxx")
    assert first.detail.endswith("xxx… (line 2)")
    assert len(first.detail) <= 256


def test_detail_prints(core):
    """A message that is shown in a terminal gives it no commands."""
    code = "raise type('\\x07\\x1b[31mE', (Exception,), {})('\\x1b[2J \\u2028 text')\n"
    assert judge(code, core=core).detail == "[31mE: [2J text (line 1)"


def test_compiler_takes_no_more_memory_than_a_program(core):
    """Each `finally` doubles the code within: the compiler wants gigabytes for a page, and takes some seconds."""
    lines = [f"{' ' * depth}try: pass\n{' ' * depth}finally:\n" for depth in range(19)]
    source = "".join(lines) + " " * 19 + "x = [1, 2, 3]\nassert 1 == 1\n"
    verdict = judge(source, core=core, cpu_s=20.0, memory_mb=128)
    assert (verdict.verdict, verdict.detail, verdict.max_rss_mb) == ("syntax", "MemoryError", 0.0)  # of no fork's


def test_nothing_is_left_for_the_next_program():
    """One worker, so that both programs meet in one fork server."""
    leave = (
        "import os, threading, time\n"
        "for path in ('/tmp/left', '/tmp/work/left', '/dev/shm/left'): open(path, 'w').write('x')\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "import json, builtins\njson.left = builtins.left = True\nos.environ['LEFT'] = '1'\nassert 1 == 1\n"
    )
    look = (
        "import os, threading, json, builtins\n"
        "assert not [p for p in ('/tmp/left', '/tmp/work/left', '/dev/shm/left') if os.path.exists(p)]\n"
        "assert threading.active_count() == 1 and 'LEFT' not in os.environ\n"
        "assert not hasattr(json, 'left') and not hasattr(builtins, 'left')\n"
    )
    programs = [Program(id=str(n), code=leave if n % 2 == 0 else look) for n in range(6)]
    assert [v.verdict for v in Sandbox(SandboxSettings()).run(programs)] == ["passed"] * 6


def test_a_port_is_free_for_the_next_program(core):
    """One worker, so that both programs meet in one fork server; a closed connection keeps its port for a minute."""
    code = (
        "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 8000))\ns.listen()\n"
        "c = socket.create_connection(('127.0.0.1', 8000))\na, _ = s.accept()\na.close()\nc.close()\ns.close()\n"
        "assert s.fileno() == -1\n"
    )
    programs = [Program(id=str(n), code=code) for n in range(3)]
    assert [v.verdict for v in Sandbox(SandboxSettings(), core=core).run(programs)] == ["passed"] * 3


def test_processes_when_asked_for():
    """A program may fork when the settings say so; a bomb stays within the limit, and a fork cannot attest a pass."""
    pool = (
        "from multiprocessing import Pool\nif __name__ == '__main__':\n"
        "    with Pool(2) as pool: assert pool.map(abs, [-1, 2]) == [1, 2]\n"
    )
    bomb = (
        "import os\nn = 0\nwhile n < 10000:\n    if os.fork() == 0:\n        import time; time.sleep(60)\n    n += 1\n"
    )
    forged = "import os\nif os.fork():\n    os.wait(); os._exit(0)\nassert 1 == 1\n"
    assert judge(pool, processes=8).verdict == "passed"
    assert judge(bomb, processes=8, threads=8).verdict == "exception"
    assert judge(forged, processes=8).verdict == "early_exit"


def refused_calls(machine: str, processes: bool, found) -> None:
    """In a process of its own: install the filter, try calls, and send the error numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = filter.build_filter(machine, processes)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    assert libc.prctl(python_core.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(python_core.PR_SET_SECCOMP, 2, program, 0, 0) == 0
    column = filter.ARCHITECTURES[machine][0]
    calls = {name: numbers[column] for name, numbers in (filter.REFUSED | filter.STARTS).items() if numbers[column]}
    calls |= {"clone": filter.CLONE[column], "clone3": filter.CLONE3[column]}
    result = {}
    for name, number in calls.items():
        if processes and name in filter.STARTS:
            continue
        flags = {"clone": 0x10000000 | 17}.get(name, 0)  # a new user namespace
        returned = libc.syscall(number, flags, 0, 0, 0, 0)
        result[name] = errno.errorcode[ctypes.get_errno()] if returned == -1 else returned
    found.send(result)


@pytest.mark.parametrize("processes", [False, True])
def test_system_call_filter(processes):
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=refused_calls, args=(os.uname().machine, processes, there))
    child.start()
    assert here.poll(30)
    found = here.recv()
    child.join()
    assert found.pop("clone3") == "ENOSYS"
    assert len(found) > 30
    assert set(found.values()) == {"EPERM"}


def test_bubblewrap_in_a_private_place(monkeypatch, tmp_path):
    """Root gives up what it may read before bubblewrap starts, and hides /tmp: the program must be there still."""
    shutil.copy(shutil.which("bwrap"), tmp_path / "bwrap")
    tmp_path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert judge("assert 1 == 1\n").verdict == "passed"
