"""The fork server that runs inside bubblewrap and judges one program after another, each in a fork of its own.

It is sent to the interpreter as text, so it imports nothing but the standard library. Each program is process 1 of a
new pid namespace, with a new mount namespace, an empty working folder, no capabilities, a system call filter and
limits. Requests come and verdicts go as length-prefixed JSON on the server's standard streams, which programs never
see. What a program reports of itself counts only behind a token that the server makes after the fork; it lies on the
interpreter's value stack while the program runs, never in a variable that frames or the garbage collector show.
"""

import builtins

# Functions defined below look up builtins here, so that a program that patches `builtins` does not patch us.
__builtins__ = dict(vars(builtins))

import ast
import collections
import contextlib
import ctypes
import dataclasses
import functools
import gc
import io
import itertools
import json
import linecache
import math
import os
import posix
import random
import re
import resource
import select
import signal
import site
import struct
import sys
import time
import traceback
import types
import typing
import warnings

PRELOADED = (collections, dataclasses, functools, itertools, math, typing, linecache)
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
WORK = "/tmp/work"
NAME = "/program.py"
CONTROL, TOKEN = 254, 255  # high, so that a program which closes or reuses low descriptors does not meet them
PROGRESS = 200  # a program with less CPU time than this fraction of its wall time sleeps
EXTENSIONS = 9  # a program that still computes, on a busy machine, gets its wall time again this often
OURS = 3  # processes of this user namespace besides the program's threads: bwrap, server, program
STARTED, FALSE, FAILED_CASE = b"\x01", b"\x02", b"\x03"  # marks on the control pipe that nothing can take back

TEST_MARK, OTHER_MARK = b"\0assert of a test\0", b"\0assert elsewhere\0"
posix_write, posix_read, posix_close = posix.write, posix.read, posix.close
posix_getpid, posix_exit = posix.getpid, posix._exit

# System calls that no program needs: x86-64 and aarch64 numbers.
REFUSED = {
    "ptrace": (101, 117),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "memfd_create": (319, 279),  # memory that no limit counts
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "quotactl": (179, 60),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
STARTS = {"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)}
CLONE, CLONE3 = (56, 220), (435, 435)
CLONE_THREAD, NEW_NAMESPACES = 0x00010000, 0x7E020000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# Ways to harness state or native memory that the audit hook closes; nothing can remove the hook.
FORBIDDEN_EVENTS = frozenset(
    ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames", "sys._current_exceptions")
)
FORBIDDEN_IMPORTS = frozenset(
    (
        "_ctypes",
        "_ctypes_test",
        "_cffi_backend",
        "_testcapi",
        "_testinternalcapi",
        "_xxsubinterpreters",
        "_interpreters",
    )
)


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


def write_frame(descriptor: int, value: dict) -> None:
    """Write one length-prefixed JSON value."""
    data = json.dumps(value).encode()
    data = struct.pack("!I", len(data)) + data
    while data:
        data = data[os.write(descriptor, data) :]


def call(libc: ctypes.CDLL, name: str, *arguments) -> None:
    """Call a C function that returns 0 on success.

    Raises:
        OSError: it failed; names the function.
    """
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def build_filter(machine: str, processes: bool) -> bytes:
    """Assemble the seccomp filter: the refused calls give EPERM, a foreign architecture kills."""
    column, audit = ARCHITECTURES[machine]
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    allow, kill, eperm, enosys = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026

    def step(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    program = [step(load, 0, 0, 4), step(equal, 1, 0, audit), step(give, 0, 0, kill), step(load, 0, 0, 0)]
    if machine == "x86_64":  # the x32 numbers would go around the list
        program += [step(0x35, 0, 1, 0x40000000), step(give, 0, 0, kill)]
    refused = list(REFUSED.values()) + ([] if processes else list(STARTS.values()))
    for numbers in refused:
        if numbers[column] is not None:
            program += [step(equal, 0, 1, numbers[column]), step(give, 0, 0, eperm)]
    # clone3 hides its flags behind a pointer; the C library falls back to clone, whose flags are the first argument.
    program += [step(equal, 0, 1, CLONE3[column]), step(give, 0, 0, enosys)]
    program += [step(equal, 1, 0, CLONE[column]), step(give, 0, 0, allow), step(load, 0, 0, 16)]
    program += [step(any_bit, 0, 1, NEW_NAMESPACES), step(give, 0, 0, eperm)]
    if not processes:
        program += [step(any_bit, 1, 0, CLONE_THREAD), step(give, 0, 0, eperm)]
    program.append(step(give, 0, 0, allow))
    return b"".join(program)


# --- Evidence: what the program's assertions and test cases did -------------------------------------------------


def is_vacuous(test: ast.expr) -> bool:
    """Tell whether an assertion is true by its form alone: `assert (x == 1, "message")`."""
    match test:
        case ast.Constant():
            return bool(test.value)
        case ast.Tuple() | ast.List() | ast.Set():
            return bool(test.elts)
        case ast.Dict():
            return bool(test.keys)
        case ast.Lambda() | ast.JoinedStr():
            return True
    return False


def is_test_name(name: str) -> bool:
    """Tell whether a function or class is named like a test."""
    name = name.strip("_").lower()
    return name.startswith(("test", "check")) or name.endswith(("test", "tests")) or name in ("main", "run")


def instrument(tree: ast.Module, tests_line: int | None) -> None:
    """Wrap the condition of every assertion in a call of a marker, which `plant` turns into a recorder.

    Assertions of tests (all of the test part; without one, module level; functions named like tests) get TEST_MARK,
    others, such as a solution's preconditions, OTHER_MARK: a test may expect those to fail.
    """
    stack: list[tuple[ast.AST, bool | None]] = [(tree, None)]  # node, and whether the function around it is a test
    while stack:  # not recursive: programs nest deeply
        node, in_test = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            in_test = bool(in_test) or is_test_name(node.name)
        if isinstance(node, ast.Assert) and not is_vacuous(node.test):
            is_test = node.lineno >= tests_line if tests_line else in_test is None
            is_test = is_test or bool(in_test)
            mark = ast.copy_location(ast.Constant(TEST_MARK if is_test else OTHER_MARK), node.test)
            node.test = ast.copy_location(ast.Call(func=mark, args=[node.test], keywords=[]), node.test)
        stack.extend((child, in_test) for child in ast.iter_child_nodes(node))


def plant(code: types.CodeType, recorders: dict) -> types.CodeType:
    """Put the recorders where the markers stand among the code's constants; no name of ours enters the program."""
    constants = []
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            value = plant(value, recorders)
        elif type(value) is bytes:
            value = recorders.get(value, value)
        constants.append(value)
    return code.replace(co_consts=tuple(constants))


def hoist_future_imports(tree: ast.Module) -> None:
    """Move `from __future__` of the test part to the top, where it stood before the parts were joined."""
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    others = [node for node in tree.body if node not in future]
    start = int(ast.get_docstring(tree, clean=False) is not None and len(others) > 0)
    tree.body = others[:start] + future + others[start:]


def find_uncalled_tests(tree: ast.Module) -> list[str]:
    """Name the pytest-style functions and classes of the module that nothing in it mentions."""
    mentioned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            required = len(node.args.args) + len(node.args.posonlyargs) - len(node.args.defaults)
            required += sum(default is None for default in node.args.kw_defaults)
            if required == 0 and node.name not in mentioned:
                found.append(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test") and node.name not in mentioned:
            found.append(node.name)
    return found


def run_uncalled_tests(names: list[str], module: types.ModuleType, counts: list[int]) -> None:
    """Run what pytest would run, and unittest cases when the program ran none of its own."""
    unittest = sys.modules.get("unittest")
    cases_before = counts[1]
    for name in names:
        item = vars(module).get(name)
        if isinstance(item, types.FunctionType):
            run_test(item)
        elif isinstance(item, type) and not (unittest and issubclass(item, unittest.TestCase)):
            if "__init__" in vars(item):  # pytest leaves those alone too: it is no class of tests
                continue
            for method in [key for key in vars(item) if key.startswith("test")]:
                run_test(getattr(item(), method))
    if unittest and cases_before == 0:
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
        if suite.countTestCases():
            unittest.TextTestRunner(stream=io.StringIO()).run(suite)


def run_test(function: typing.Callable) -> None:
    """Call one test function, in an event loop when it is a coroutine."""
    result = function()
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)


def hook_assertions(kind: type, counts: list[int]) -> None:
    """Count the calls of a class's assert methods and mark those that fail."""

    def counted(original):
        @functools.wraps(original)
        def method(self, *arguments, **options):
            counts[0] += 1
            try:
                return original(self, *arguments, **options)
            except AssertionError:
                posix_write(CONTROL, FALSE)
                raise

        return method

    for name in dir(kind):
        if name.startswith("assert"):
            setattr(kind, name, counted(getattr(kind, name)))


def hook_unittest(counts: list[int]) -> None:
    """Count the cases and assertions that unittest runs and mark those that fail."""
    import unittest

    def counted(original):
        def method(self, test):
            counts[1] += 1
            return original(self, test)

        return method

    def failing(original):
        def method(self, *arguments):
            if arguments[-1] is not None:  # addSubTest reports success as None
                posix_write(CONTROL, FAILED_CASE)
            return original(self, *arguments)

        return method

    result = unittest.TestResult
    result.startTest = counted(result.startTest)
    for name in ("addFailure", "addError", "addSubTest", "addUnexpectedSuccess"):
        setattr(result, name, failing(getattr(result, name)))
    hook_assertions(unittest.TestCase, counts)


def hook_doctest(counts: list[int]) -> None:
    """Count the examples that doctest runs and mark failures."""
    import doctest

    original = doctest.DocTestRunner.run

    def run(self, *arguments, **options):
        results = original(self, *arguments, **options)
        counts[0] += results.attempted
        if results.failed:
            posix_write(CONTROL, FAILED_CASE)
        return results

    doctest.DocTestRunner.run = run


def build_recorders(counts: list[int], has_tests: bool) -> dict:
    """Make the functions that count an executed assertion and mark a false one of a test."""

    def record_test(value):
        counts[0] += 1
        if value:
            return True
        posix_write(CONTROL, FALSE)
        return False

    def record_other(value):
        counts[0] += not has_tests
        return value

    return {TEST_MARK: record_test, OTHER_MARK: record_other}


# --- One program ------------------------------------------------------------------------------------------------


def attempt(
    action: typing.Callable,
    *arguments,
    caught: type = BaseException,
    trace: typing.Callable = sys.settrace,
    profile: typing.Callable = sys.setprofile,
) -> BaseException | None:
    """Call something of the program's and return what it raised; looks up no name that the program can change."""
    try:
        action(*arguments)
    except caught as error:
        return error
    finally:
        trace(None)
        profile(None)
    return None


def restore(space: dict, names: dict, builtin_space: dict, builtin_names: dict, result: object) -> object:
    """Put our own names back as they were, whatever the program found and changed; return the last argument."""
    space.update(names)
    builtin_space.update(builtin_names)
    return result


def call_program(action: typing.Callable, *arguments) -> BaseException | None:
    """Let the program's code run, and restore our names; the copies wait unnamed on the value stack meanwhile."""
    return restore(globals(), dict(globals()), __builtins__, dict(__builtins__), attempt(action, *arguments))


def find_lines(error: BaseException) -> list[int]:
    """Return the lines of the program in an error's traceback, outermost first."""
    steps = traceback.walk_tb(error.__traceback__)
    return [line for frame, line in steps if frame.f_code.co_filename == NAME]


def report(verdict: str, error: BaseException | None, count: int) -> bytes:
    """Encode what the server needs to know of a finished program."""
    kind = message = ""
    line = 0
    if error is not None:
        kind = type(error).__name__
        message = str(error)[:2000]
        line = (getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None) or 0
        line = line or (find_lines(error) or [0])[-1]
    return "\x1f".join((verdict, str(count), str(line), kind, message)).encode("utf-8", "backslashreplace")


def run_program(_: None, code: str, tests: str) -> bytes:
    """Compile and run a program as `__main__`, and report how it ended; the first argument closed the token's pipe."""
    if code and not code.endswith("\n"):
        code += "\n"
    source = code + tests
    tests_line = code.count("\n") + 1 if tests else None
    counts = [0, 0]  # assertions, and cases of unittest
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)  # the compiler counts against it when it reads a tree, not when it reads text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, NAME)
            if tests:
                hoist_future_imports(tree)
            last = tree.body[-1] if tree.body else None
            uncalled = find_uncalled_tests(tree)
            instrument(tree, tests_line)
            compiled = plant(compile(tree, NAME, "exec"), build_recorders(counts, bool(tests)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return report("syntax", error, 0)
    finally:
        sys.setrecursionlimit(limit)
    del tree
    if "unittest" in source:
        hook_unittest(counts)
    if "mock" in source:
        from unittest.mock import NonCallableMock

        hook_assertions(NonCallableMock, counts)
    if "doctest" in source:
        hook_doctest(counts)

    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__=NAME)
    sys.modules["__main__"] = module
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    sys.argv[:] = [NAME]
    random.seed(0)
    sys.path.insert(0, WORK)

    error = call_program(exec, compiled, module.__dict__)
    if type(error) is SystemExit and not error.code:
        # `unittest.main()` or `sys.exit(main())` as the last statement is a whole run; anywhere else it is not.
        line = (find_lines(error) or [0])[0]
        if last.lineno <= line <= last.end_lineno:
            error = None
    if error is None:
        error = call_program(run_uncalled_tests, uncalled, module, counts)
    if error is None and "threading" in sys.modules:
        error = call_program(sys.modules["threading"]._shutdown)
    if isinstance(error, MemoryError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
    if posix_getpid() != 1:
        posix_exit(0)  # a fork of the program that came back here has nothing to attest
    if error is None:
        return report("passed" if counts[0] else "no_tests", None, counts[0])
    verdicts = ((AssertionError, "assertion"), (MemoryError, "memory"), (SystemExit, "early_exit"))
    verdict = next((name for kind, name in verdicts if isinstance(error, kind)), "exception")
    return report(verdict, error, counts[0])


def isolate(libc: ctypes.CDLL, settings: dict, filter_code: bytes) -> None:
    """Give this process namespaces, an empty working folder and limits of its own, then take its privileges."""
    os.setsid()  # process groups reach across pid namespaces: without this, kill(0, 9) would meet the server
    call(libc, "unshare", CLONE_NEWNS)
    size = f"size={settings['disk_mb']}m,nr_inodes=4096,mode=755".encode()
    for target in (b"/tmp", b"/dev/shm"):
        call(libc, "mount", b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, size)
    os.mkdir(WORK)
    os.chdir(WORK)
    megabyte = 1 << 20
    cpu = math.ceil(2 * settings["cpu_s"]) + 1  # the kernel's own limit counts by ticks; the server's decides
    memory = settings["memory_mb"] * megabyte
    limits = {
        resource.RLIMIT_CPU: (cpu, cpu),
        resource.RLIMIT_AS: (memory, memory + 64 * megabyte),
        resource.RLIMIT_FSIZE: (settings["disk_mb"] * megabyte,) * 2,
        resource.RLIMIT_NOFILE: (CONTROL + 2, CONTROL + 2),
        resource.RLIMIT_NPROC: (OURS + settings["threads"] + settings["processes"],) * 2,
        resource.RLIMIT_STACK: (8 * megabyte, 8 * megabyte),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
        resource.RLIMIT_SIGPENDING: (256, 256),
    }
    for limit, (soft, hard) in limits.items():
        ceiling = resource.getrlimit(limit)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(limit, (soft, hard))
    header = struct.pack("Ii", 0x20080522, 0)
    call(libc, "capset", header, bytes(24))
    call(libc, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    buffer = ctypes.create_string_buffer(filter_code, len(filter_code))
    program = struct.pack("HxxxxxxP", len(filter_code) // 8, ctypes.addressof(buffer))
    call(libc, "prctl", PR_SET_SECCOMP, 2, program, 0, 0)


def guard(
    event: str,
    arguments: tuple,
    events: frozenset = FORBIDDEN_EVENTS,
    imports: frozenset = FORBIDDEN_IMPORTS,
    ours: dict = globals(),  # noqa: B008, this module's own
) -> None:
    """Audit hook: refuse what leads to harness state or to native memory."""
    if event in events or event.startswith("ctypes."):
        raise PermissionError(f"{event} is not available in the sandbox")
    if event == "import" and arguments[0] in imports:
        raise ImportError(f"{arguments[0]} is not available in the sandbox", name=arguments[0])
    if event == "object.__setattr__" and getattr(arguments[0], "__globals__", None) is ours:
        raise PermissionError("the harness is not yours to change")


def be_program(libc: ctypes.CDLL, settings: dict, filter_code: bytes, request: dict, pipes: tuple) -> None:
    """Become the program's process; never return."""
    output, control, token = pipes
    for source, target in ((output, 1), (output, 2), (control, CONTROL), (token, TOKEN)):
        os.dup2(source, target)
    os.closerange(3, CONTROL)
    try:
        isolate(libc, settings, filter_code)
    except OSError as error:
        posix_write(CONTROL, str(error).encode())
        posix_exit(1)
    globals().pop("ctypes")
    for name in [name for name in sys.modules if name.split(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]
    del libc
    sys.addaudithook(guard)
    posix_write(CONTROL, STARTED)
    # One expression: the token is read first and waits on the value stack, without a name, for the report.
    posix_write(CONTROL, posix_read(TOKEN, 32) + run_program(posix_close(TOKEN), **request))
    posix_exit(0)


# --- The server -------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that another process has used so far."""
    return time.clock_gettime((~pid << 3) | 2)  # the kernel's number for a process's CPU clock


def watch(pid: int, output: int, control: int, settings: dict) -> tuple[str, int, bytes]:
    """Drain a program's pipes until it ends or breaks a limit, then make sure that it is dead.

    Returns:
        The limit it broke ("" for none), the bytes it printed and what it wrote to the control pipe so far.
    """
    broken, printed, said = "", 0, b""
    process = os.pidfd_open(pid)
    poller = select.poll()
    for descriptor in (output, control, process):
        poller.register(descriptor, select.POLLIN)
    window = settings["cpu_s"] * settings["wall_factor"]
    deadline, cpu_before, extensions = time.monotonic() + window, 0.0, 0
    check = time.monotonic() + settings["cpu_s"]  # when it may have used its CPU time at the earliest
    running = True
    while running:
        for descriptor, _ in poller.poll(max(0.0, min(deadline, check) - time.monotonic()) * 1000 + 1):
            if descriptor == process:
                running = False
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                poller.unregister(descriptor)
            elif descriptor == output:
                printed += len(data)
            elif len(said) < 1 << 20:
                said += data
        now = time.monotonic()
        if printed > settings["output_kb"] * 1024:
            broken = "output_limit"
        elif running and now >= min(deadline, check):
            cpu = cpu_seconds(pid)
            check = now + max(settings["cpu_s"] - cpu, 0.005)
            if cpu >= settings["cpu_s"]:
                broken = "timeout_cpu"
            elif now >= deadline and cpu - cpu_before > window / PROGRESS and extensions < EXTENSIONS:
                deadline, cpu_before, extensions = now + window, cpu, extensions + 1  # slow: the machine is busy
            elif now >= deadline:
                broken = "timeout_wall"
        if broken and running:
            os.kill(pid, signal.SIGKILL)  # process 1 of its namespace: the kernel ends all the others with it
            running = False
    os.close(process)
    return broken, printed, said


def judge(broken: str, said: bytes, token: bytes, status: int) -> dict:
    """Turn what was seen of a program into verdict, detail and number of assertions."""
    marks, attested, report = said.partition(token)
    if STARTED not in marks:
        text = marks.decode("utf-8", "replace").strip() or f"status {status}"
        return {"verdict": "sandbox_error", "detail": tidy(f"not isolated: {text}"), "assertions": 0}
    if broken:
        return {"verdict": broken, "detail": "", "assertions": 0}
    if attested:
        verdict, count, line, kind, message = report.decode("utf-8", "replace").split("\x1f", 4)
        place = f" (line {line})" if line != "0" else ""
        detail = tidy(kind + (f": {message}" if message else ""), 256 - len(place)) + place
        if FAILED_CASE in marks and verdict in ("passed", "no_tests", "early_exit"):
            verdict, detail = "assertion", "a unittest or doctest case failed"
        elif FALSE in marks and verdict in ("passed", "no_tests"):
            verdict, detail = "swallowed_assertion", "an assertion was false and its error was caught"
        return {"verdict": verdict, "detail": detail, "assertions": int(count)}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            # A namespace's process 1 cannot be killed from within: the machine ran out of memory, or somebody did it.
            return {"verdict": "sandbox_error", "detail": "killed from outside the sandbox", "assertions": 0}
        return {"verdict": "killed", "detail": signal.Signals(number).name, "assertions": 0}
    detail = f"ended with exit code {os.waitstatus_to_exitcode(status)} before its last statement"
    return {"verdict": "early_exit", "detail": detail, "assertions": 0}


def tidy(detail: str, length: int = 256) -> str:
    """Take addresses and random file names out of a message, so that it is the same on every run, and shorten it."""
    detail = re.sub(r"\b0x[0-9a-fA-F]{6,16}\b", "0x…", detail)
    detail = re.sub(r"\btmp[a-z0-9_]{8}\b", "tmp…", detail)
    detail = " ".join(detail.split())
    return detail if len(detail) <= length else detail[: length - 1] + "…"


def run_one(libc: ctypes.CDLL, own: int, settings: dict, filter_code: bytes, request: dict) -> dict:
    """Fork, isolate, run and judge one program."""
    start = time.monotonic()
    # A process may have one pid namespace prepared for its children; going back to its own allows the next.
    call(libc, "setns", own, CLONE_NEWPID)
    call(libc, "unshare", CLONE_NEWPID)
    output, program_output = os.pipe()
    control, program_control = os.pipe()
    program_token, give_token = os.pipe()
    pid = os.fork()
    if pid == 0:
        be_program(libc, settings, filter_code, request, (program_output, program_control, program_token))
    for descriptor in (program_output, program_control, program_token):
        os.close(descriptor)
    token = os.urandom(32)  # made after the fork: the program's process has no copy in memory
    with contextlib.suppress(BrokenPipeError):
        os.write(give_token, token)
    os.close(give_token)
    broken, printed, said = watch(pid, output, control, settings)
    _, status, usage = os.wait4(pid, 0)
    while data := os.read(control, 1 << 16):  # every writer is dead, so this ends
        said += data
    while data := os.read(output, 1 << 16):
        printed += len(data)
    os.close(control)
    os.close(output)
    if not broken and printed > settings["output_kb"] * 1024:
        broken = "output_limit"
    cpu = usage.ru_utime + usage.ru_stime
    verdict = judge(broken, said, token, status)
    return verdict | {
        "cpu_s": round(cpu, 4),
        "wall_s": round(time.monotonic() - start, 4),
        "max_rss_mb": round(usage.ru_maxrss / 1024, 1),
    }


def serve() -> None:
    """Answer requests until the stream ends. The first frame holds the settings."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    settings = read_frame(requests)
    sys.path[:] = [*sys.path, *settings["path"]]
    for name in settings["packages"]:
        __import__(name)
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        write_frame(replies, {"error": f"the sandbox has no system call filter for {machine}"})
        return
    filter_code = build_filter(machine, settings["processes"] > 0)
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.pidfd_open(os.getpid())
    site.setquit()
    gc.collect()
    gc.freeze()
    write_frame(replies, {"ready": sys.version.split()[0]})
    while (request := read_frame(requests)) is not None:
        try:
            verdict = run_one(libc, own, settings, filter_code, request)
        except OSError as error:
            verdict = {"verdict": "sandbox_error", "detail": str(error), "assertions": 0}
            verdict |= {"cpu_s": 0.0, "wall_s": 0.0, "max_rss_mb": 0.0}
        write_frame(replies, verdict)


if __name__ == "__main__":
    serve()
