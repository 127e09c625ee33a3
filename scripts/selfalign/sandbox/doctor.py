"""Try the sandbox on this machine: is it there, does it hold, and what is missing if not."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable

from selfalign.records.rows import Verdict
from selfalign.sandbox.build import REMEDY
from selfalign.sandbox.host import SandboxUnavailable, find_bwrap
from selfalign.sandbox.launch import UNPRIVILEGED
from selfalign.sandbox.pool import Sandbox
from selfalign.sandbox.settings import Program, SandboxSettings

NO_CORE = f"the C core was not built at set-up, so the slower one in Python serves; {REMEDY}"

# name: (the verdict that shows that the wall holds, the program). {host_file} is a file made on the host.
# The two that take their time come first, so that the others run beside them.
CANARIES = {
    "wall": ("timeout_wall", "import time\ntime.sleep(3600)\n"),
    "cpu": ("timeout_cpu", "while True:\n    pass\n"),
    "correct": ("passed", "def double(x):\n    return 2 * x\nassert double(2) == 4\n"),
    "wrong": ("assertion", "assert 1 + 1 == 3\n"),
    "exit": ("early_exit", "import os\nos._exit(0)\nassert 1 == 1\n"),
    "polite_exit": ("early_exit", "import sys\nassert 1 == 1\nsys.exit(0)\nassert 1 == 2\n"),
    "forged_status": ("early_exit", "import os\nassert 1 == 1\nos._exit(77)\n"),
    "ctypes": (
        "passed",
        "try:\n    import ctypes\n    refused = False\nexcept (ImportError, OSError):\n    refused = True\n"
        "assert refused is True\n",
    ),
    "signal": ("passed", "import os\nos.kill(0, 9)\nassert 1 == 1\n"),
    "network": (
        "passed",
        # Named in two parts: a program that mentions sockets would get a network of its own, and prove nothing.
        "net = __import__('sock' + 'et')\n"
        "try:\n    net.create_connection(('1.1.1.1', 53), timeout=2)\n    reached = True\n"
        "except OSError:\n    reached = False\n"
        "assert reached is False\n"
        "assert [name for _, name in net.if_nameindex()] == ['lo']\n",
    ),
    "host_file": (
        "passed",
        "import os\n"
        "assert not os.path.exists({host_file!r})\n"
        "assert not os.path.exists('/etc/passwd') and not os.path.exists('/proc/1')\n"
        "assert os.listdir('.') == []\n",
    ),
    "host_write": (
        "passed",
        "refused = 0\n"
        "for path in ('/canary', '/usr/lib/canary', '/dev/canary'):\n"
        "    try:\n        open(path, 'w')\n    except OSError:\n        refused += 1\n"
        "assert refused == 3\n",
    ),
    "environment": (
        "passed",
        "import os\nassert 'SELFALIGN_CANARY' not in os.environ\n"
        "try:\n    found = open('/proc/1/environ', 'rb').read()\nexcept OSError:\n    found = b''\n"
        "assert found == b''\n",
    ),
    "privileges": (
        "passed",
        "import os\nassert os.getuid() != 0 and os.getpid() == 1\n"
        "try:\n    os.setuid(0)\n    changed = True\nexcept OSError:\n    changed = False\n"
        "assert changed is False\n",
    ),
    "fork": ("exception", "import os\nwhile True:\n    os.fork()\n"),
    "threads": (
        "exception",
        "import threading, time\n"
        "while True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
    ),
    "memory": ("memory", "blocks = []\nwhile True:\n    blocks.append(bytearray(1 << 26))\n"),
    "disk": (
        "passed",
        "import errno\n"
        "written, code = 0, 0\n"
        "try:\n"
        "    for number in range(64):\n"
        "        with open(str(number), 'wb') as file:\n            written += file.write(bytes(1 << 20))\n"
        "except OSError as error:\n    code = error.errno\n"
        "assert code == errno.ENOSPC and written < 64 << 20\n",
    ),
    "output": ("output_limit", "while True:\n    print('x' * 1000)\n"),
}

JAVASCRIPT_CANARIES = {
    "wall": ("timeout_wall", "setInterval(() => {}, 1000);\n"),
    "cpu": ("timeout_cpu", "for (;;);\n"),
    "correct": ("passed", "const double = (x) => 2 * x;\nassert.equal(double(2), 4);\n"),
    "wrong": ("assertion", "assert.equal(1 + 1, 3);\n"),
    "exit": ("early_exit", "assert.equal(1, 1);\nprocess.exit(0);\n"),
    "network": (
        "passed",
        "const answer = await fetch('http://1.1.1.1/').catch((error) => error);\nassert.ok(answer instanceof Error);\n",
    ),
    "host_file": (
        "passed",
        "let refused = 0;\n"
        "for (const name of ['fs', 'node:child_process', 'worker_threads', 'v8', {host_file!r}]) {\n"
        "  try { require(name); } catch (error) { refused += error.code === 'MODULE_NOT_FOUND'; }\n}\n"
        "assert.equal(refused, 5);\nassert.equal(process.binding, undefined);\n",
    ),
    "environment": ("passed", "assert.equal(process.env.SELFALIGN_CANARY, undefined);\n"),
    "memory": ("memory", "const blocks = [];\nfor (;;) blocks.push(Buffer.alloc(1 << 26, 1));\n"),
    "output": ("output_limit", "for (;;) console.log('x'.repeat(1000));\n"),
}
TABLES = {"python": CANARIES, "javascript": JAVASCRIPT_CANARIES}


def run_canaries(core: str | None = None, language: str = "python") -> dict[str, Verdict]:
    """Run a program against each wall, which takes about a second, and return the verdicts by name.

    Args:
        core, language: As for `Sandbox`.

    Raises:
        SandboxUnavailable: something is missing, or a canary met a wall that does not hold; names cause and remedy.
    """
    canaries = TABLES[language]
    settings = SandboxSettings(cpu_s=0.25, wall_factor=2.0, memory_mb=128)
    os.environ["SELFALIGN_CANARY"] = "leaked"
    try:
        with tempfile.NamedTemporaryFile() as host_file:
            programs = [
                Program(
                    id=name,
                    code=code.replace("{host_file!r}", repr(host_file.name)),
                    # Only those against the clocks get little: filling memory can cost seconds on a busy machine.
                    cpu_s=None if expected.startswith("timeout") else 4.0,
                )
                for name, (expected, code) in canaries.items()
            ]
            sandbox = Sandbox(settings, workers=2, core=core, language=language)
            verdicts = {verdict.id: verdict for verdict in sandbox.run(programs)}
    finally:
        del os.environ["SELFALIGN_CANARY"]
    wrong = [name for name, (expected, _) in canaries.items() if verdicts[name].verdict != expected]
    if wrong:
        found = "; ".join(
            f"{name}: expected {canaries[name][0]}, found {verdicts[name].verdict} {verdicts[name].detail}".strip()
            for name in wrong
        )
        raise SandboxUnavailable(
            f"the sandbox starts, but it does not hold on this machine ({found}). Nothing was run in it. "
            "Check that bubblewrap is the distribution's own and that the kernel is a stock one, then report this"
        )
    return verdicts


def check_sandbox(core: str | None = None, languages: Iterable[str] = ()) -> dict:
    """Run the canaries and describe the sandbox of this machine.

    Args:
        core: As for `Sandbox`.
        languages: Of the programs that are to run here; Python is tried in any case.

    Returns:
        Versions, the isolation and the canaries' verdicts for each language; `core` is "c" or "python", and `remedy`
        says how to get the C core where Python serves because there is none (else None).

    Raises:
        SandboxUnavailable: as for `run_canaries`.
    """
    verdicts = {language: run_canaries(core, language) for language in dict.fromkeys(("python", *languages))}
    bwrap = find_bwrap()
    version = subprocess.run([bwrap, "--version"], capture_output=True, text=True, check=True).stdout
    used = verdicts["python"]["correct"].core
    missing = used == "python" and core is None
    return {
        "bwrap": version.split()[-1],
        "kernel": platform.release(),
        "machine": platform.machine(),
        "user": f"root, as uid {UNPRIVILEGED}" if os.geteuid() == 0 else f"uid {os.getuid()}",
        "isolation": "bubblewrap, one pid and mount namespace per program, system call filter",
        "core": used,
        "remedy": NO_CORE if missing else None,
        "canaries": {
            language: {name: found[name].verdict for name in TABLES[language]} for language, found in verdicts.items()
        },
    }
