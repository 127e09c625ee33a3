"""The fork server: takes programs, lets a core run each in a fork of its own, and answers with verdicts.

Requests come and verdicts go as length-prefixed JSON on the server's standard streams, which programs never see. What a
program printed follows its verdict byte for byte, where the request asks to collect it.
"""

import _imp
import collections
import contextlib
import dataclasses
import functools
import gc
import importlib.machinery
import importlib.util
import itertools
import json
import linecache
import math
import mmap
import os
import re
import resource
import signal
import site
import struct
import sys
import typing

from . import evidence  # relative: the package has another name inside the sandbox
from .filter import ARCHITECTURES, build_filter

PRELOADED = (collections, dataclasses, functools, itertools, math, typing, linecache)
ALONE_ABOVE = 64 << 10  # characters; compiling a longer source could take the server's own memory and time
NETWORK = re.compile(r"socket|server|http|ftplib|smtplib|poplib|imaplib|ssl|multiprocessing")
OURS = 3  # processes of this user namespace besides the program's threads: bwrap, server, program
PROGRESS = 200  # a program with less CPU time than this fraction of its wall time sleeps
PREEMPTIONS = 8  # one that ran out of wall time and was preempted more often, and more often than it waited, starved
# What an answer holds besides verdict and detail when no program ran.
NOTHING_RAN = {"assertions": 0, "starved": False, "cpu_s": 0.0, "wall_s": 0.0, "max_rss_mb": 0.0, "printed": 0}
EXTENSIONS = 9  # a program that still computes, on a busy machine, gets its wall time again this often


def read_frame(descriptor: int) -> dict | None:
    """Read one length-prefixed JSON value; None at the end of the stream."""

    def read(size: int) -> bytes:
        parts = []
        while size and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts) if not size else b""

    header = read(4)
    return json.loads(read(struct.unpack("!I", header)[0])) if header else None


def write_all(descriptor: int, data: memoryview) -> None:
    """Write data to their end."""
    while data:
        data = data[os.write(descriptor, data) :]


def write_frame(descriptor: int, value: dict) -> None:
    """Write one length-prefixed JSON value."""
    data = json.dumps(value).encode()
    write_all(descriptor, memoryview(struct.pack("!I", len(data)) + data))


@contextlib.contextmanager
def open_collection(request: dict) -> typing.Iterator[memoryview | None]:
    """Make room for what a program prints, with one byte more than it may; None where nothing is collected.

    Memory is used as it is written, and gone before the next program. The program inherits an empty copy.
    """
    if not request["collect"]:
        yield None
        return
    size = request["output_kb"] * 1024 + 1
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory, memoryview(memory) as collected:
        yield collected


class Core(typing.Protocol):
    """What runs programs, each in a fork of its own: `CCore`, or `python_core.Core` where that was not built."""

    name: str

    def recorders(self, has_tests: bool) -> evidence.Recorders:
        """Return the functions that a program's evidence goes to."""

    def run(self, job: evidence.Job | None, request: dict, collected: memoryview | None) -> dict:
        """Fork, isolate, run and watch one program; return what was seen of it.

        Without a job, the program is compiled in its own process. What it prints goes to `collected`, if that is given.

        Raises:
            OSError: the fork did not come about.
        """


class CCore(Core):
    """The core in C."""

    name = "c"

    def __init__(self, module, settings: dict, filter_code: bytes, prepare: typing.Callable):
        self.prepare, self.module = prepare, module
        megabyte = 1 << 20
        module.configure(
            float(settings["wall_factor"]),
            settings["memory_mb"] * megabyte,
            settings["disk_mb"] * megabyte,
            settings["processes_in_all"],
            settings["progress"],
            settings["extensions"],
            evidence.NAME,
            evidence.WORK,
            filter_code,
            os.pidfd_open(os.getpid()),
        )
        self._recorders = evidence.Recorders(
            test=module.record_test,
            top_level=module.record_top_level,
            other=module.record_other,
            count=module.count,
            mark_false=module.mark_false,
            mark_failed_case=module.mark_failed_case,
        )

    def recorders(self, has_tests: bool) -> evidence.Recorders:
        return self._recorders

    def run(self, job: evidence.Job | None, request: dict, collected: memoryview | None) -> dict:
        limits = float(request["cpu_s"]), request["output_kb"] * 1024
        seen = self.module.run(
            job, self.prepare, request, bool(request["tests"]), request["network"], *limits, collected
        )
        return seen | {name: seen[name].decode("utf-8", "replace") for name in ("kind", "message")}


def tidy(detail: str, length: int = 256) -> str:
    """Take addresses and random file names out of a message, so that it is the same on every run, and shorten it.

    What does not print goes too: a message may hold commands for a terminal.
    """
    detail = re.sub(r"\b0x[0-9a-fA-F]{6,16}\b", "0x…", detail)
    detail = re.sub(r"\btmp[a-z0-9_]{8}\b", "tmp…", detail)
    detail = " ".join("".join(letter if letter.isprintable() else " " for letter in detail[:4096]).split())
    return detail if len(detail) <= length else detail[: length - 1] + "…"


def describe(kind: str, message: str, line: int) -> str:
    """Put an error's type, message and line into one short text."""
    place = f" (line {line})" if line else ""
    return tidy(": ".join(part for part in (kind, message) if part), 256 - len(place)) + place


def judge(seen: dict) -> tuple[str, str]:
    """Turn what was seen of a program into verdict and detail."""
    status = seen["status"]
    if not seen["started"]:
        return "sandbox_error", tidy(f"not isolated: {seen['message'] or f'status {status}'}")
    if seen["broken"]:
        return seen["broken"], ""
    if seen["attested"]:
        verdict, detail = seen["verdict"], describe(seen["kind"], seen["message"], seen["line"])
        if seen["failed_case"] and verdict in ("passed", "no_tests", "early_exit"):
            return "assertion", "a unittest or doctest case failed"
        if seen["false_assertion"] and verdict in ("passed", "no_tests"):
            return "swallowed_assertion", "an assertion was false and its error was caught"
        return verdict, detail
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            # A namespace's process 1 cannot be killed from within: the machine ran out of memory, or somebody did it.
            return "sandbox_error", "killed from outside the sandbox"
        if number == signal.SIGSYS:
            return "early_exit", "tried to end with the exit status of the harness"
        return "killed", signal.Signals(number).name
    return "early_exit", f"ended with exit code {os.waitstatus_to_exitcode(status)} before its last statement"


@contextlib.contextmanager
def limits(cpu_s: float, memory_mb: int) -> typing.Iterator[None]:
    """Let the compiler take no more than a program may; past its CPU time this server ends, past its memory it fails.

    A source of a page can cost gigabytes: the compiler writes the body of each `finally` twice.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory if soft == resource.RLIM_INFINITY else min(memory, soft), hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def answer(core: Core, prepare: typing.Callable, request: dict, settings: dict, replies: int) -> None:
    """Compile, run and judge one program, and write the answer, with what it printed where that is collected.

    A source that is long, or that a server did not survive compiling, is compiled in the program's own process.

    Raises:
        OSError: the program could not be started.
    """
    job = None
    if not request["alone"] and len(request["code"]) + len(request["tests"]) <= ALONE_ABOVE:
        try:
            with limits(request["cpu_s"], settings["memory_mb"]):
                job = prepare(request)
        except evidence.SYNTAX_ERRORS as error:
            detail = describe(type(error).__name__, str(error), getattr(error, "lineno", None) or 0)
            write_frame(replies, {"verdict": "syntax", "detail": detail, **NOTHING_RAN})
            return
    request["network"] = bool(NETWORK.search(request["code"]) or NETWORK.search(request["tests"]))
    with open_collection(request) as collected:
        seen = core.run(job, request, collected)
        verdict, detail = judge(seen)
        printed = seen["printed"] if collected is not None and verdict == "passed" else 0
        value = {
            "verdict": verdict,
            "detail": detail,
            "assertions": seen["assertions"],
            "starved": verdict == "timeout_wall" and seen["preemptions"] > max(PREEMPTIONS, seen["waits"]),
            "cpu_s": round(seen["cpu_s"], 4),
            "wall_s": round(seen["wall_s"], 4),
            "max_rss_mb": round(seen["max_rss_mb"], 1),
            "printed": printed,
        }
        write_frame(replies, value)
        if printed:
            with collected[:printed] as part:
                write_all(replies, part)


def warm_up() -> None:
    """Let packages do before programs what they do once and programs may not; give them a fixed random seed."""
    if "scipy" in sys.modules:
        importlib.import_module("scipy.integrate").quad(abs, 0, 1)  # imports ctypes
    if "sklearn" in sys.modules:  # it looks by ctypes for libraries that have threads
        importlib.import_module("sklearn.cluster").KMeans(1, n_init=1).fit([[0.0], [1.0]])
    if "pandas" in sys.modules:  # to warn of writes to a copy it asks gc.get_referents
        with contextlib.suppress(AttributeError):  # it has no such option from some version on
            sys.modules["pandas"].options.mode.chained_assignment = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)  # as `random`, which the core seeds


def load_core(path: str):
    """Load the C core from its file."""
    loader = importlib.machinery.ExtensionFileLoader("selfalign_sandbox", path)
    spec = importlib.util.spec_from_file_location("selfalign_sandbox", path, loader=loader)
    return importlib.util.module_from_spec(spec)


def serve() -> None:
    """Answer requests until the stream ends. The first frame holds the settings."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    settings = read_frame(requests)
    settings["processes_in_all"] = OURS + settings["threads"] + settings["processes"]
    settings |= {"progress": PROGRESS, "extensions": EXTENSIONS}
    sys.path[:] = [evidence.WORK, *sys.path, *settings["path"]]
    sys.argv[:] = [evidence.NAME]
    for name in _imp._frozen_module_names():  # the guard does not tell these from code that a program brings
        if not name.startswith("__"):
            __import__(name)
    for name in settings["packages"]:
        try:
            __import__(name)
        except Exception as error:  # whatever a package's own code raises
            write_frame(replies, {"error": tidy(f"{name}: {type(error).__name__}: {error}", 2000)})
            return
    warm_up()
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        write_frame(replies, {"error": f"the sandbox has no system call filter for {machine}"})
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def prepare(request: dict) -> evidence.Job:
        return evidence.prepare(request, core.recorders(bool(request["tests"])))

    processes = settings["processes"] > 0
    if settings["node"]:
        from . import node_core

        core = node_core.Core(settings, build_filter(machine, False, compiles=True))
        prepare = core.prepare
    elif settings["core"]:
        module = load_core(settings["core"])
        filter_code = build_filter(machine, processes, (module.PASSED, module.FINISHED), module.left_at)
        core = CCore(module, settings, filter_code, prepare)
    else:
        from . import python_core  # it imports ctypes, which must not be there beside the C core

        core = python_core.Core(settings, build_filter(machine, processes), prepare)
    # A package may have loaded ctypes. Programs import neither that nor us; to load _ctypes again the guard refuses.
    for name in [name for name in sys.modules if name.split(".")[0] in (__package__, "ctypes", "_ctypes")]:
        del sys.modules[name]
    site.setquit()
    gc.collect()
    gc.freeze()
    write_frame(replies, {"ready": sys.version.split()[0], "core": core.name})
    while (request := read_frame(requests)) is not None:
        try:
            answer(core, prepare, request, settings, replies)
        except OSError as error:
            write_frame(replies, {"verdict": "sandbox_error", "detail": str(error), **NOTHING_RAN})
