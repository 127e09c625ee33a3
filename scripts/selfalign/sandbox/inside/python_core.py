"""The core of the sandbox in Python: fork, isolation, watching and attestation of one program.

It serves where the C core was not built. What a program reports of itself counts only behind a token that the server
makes after the fork; it lies on the interpreter's value stack while the program runs, never in a variable that frames
or the garbage collector show. Unlike the C core's exit, trace functions and native tricks could get at it.
"""

import builtins

# Functions defined below look up builtins here, so that a program that patches `builtins` does not patch us.
__builtins__ = dict(vars(builtins))

import contextlib
import ctypes
import math
import os
import posix
import random
import resource
import select
import signal
import struct
import sys
import time
import traceback
import types
import typing

from . import evidence  # relative: the package has another name inside the sandbox

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
SIOCSIFFLAGS, LOOPBACK_UP = 0x8914, struct.pack("16sH22x", b"lo", 1)
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
CONTROL, TOKEN = 254, 255  # high, so that a program which closes or reuses low descriptors does not meet them
STARTED, FALSE, FAILED_CASE = b"\x01", b"\x02", b"\x03"  # marks on the control pipe that nothing can take back
posix_write, posix_read, posix_close = posix.write, posix.read, posix.close
posix_getpid, posix_exit = posix.getpid, posix._exit

# Ways to harness state or native memory that the audit hook closes; nothing can remove the hook.
FORBIDDEN_EVENTS = frozenset(
    (
        "gc.get_objects",
        "gc.get_referrers",
        "gc.get_referents",
        "sys._current_frames",
        "sys._current_exceptions",
        "sqlite3.enable_load_extension",
    )
)
FORBIDDEN_IMPORTS = frozenset(
    (
        "_ctypes",
        "_ctypes_test",
        "_cffi_backend",
        "_testcapi",
        "_testinternalcapi",
        "_testbuffer",
        "_testlimitedcapi",
        "_xxsubinterpreters",
        "_interpreters",
    )
)


def call(libc: ctypes.CDLL, name: str, *arguments) -> None:
    """Call a C function that returns 0 on success.

    Raises:
        OSError: it failed; names the function.
    """
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def make_recorders(counts: list[int], has_tests: bool) -> evidence.Recorders:
    """Make recorders that count assertions, cases and top-level assertions in `counts` and mark on the control pipe."""

    def record_test(value):
        counts[0] += 1
        if value:
            return True
        posix_write(CONTROL, FALSE)
        return False

    def record_top_level(value):
        counts[2] += 1
        return record_test(value)

    def record_other(value):
        counts[0] += not has_tests
        return value

    def count(assertions, cases):
        counts[0] += max(assertions, 0)
        counts[1] += max(cases, 0)

    return evidence.Recorders(
        test=record_test,
        top_level=record_top_level,
        other=record_other,
        count=count,
        mark_false=lambda: posix_write(CONTROL, FALSE) and None,
        mark_failed_case=lambda: posix_write(CONTROL, FAILED_CASE) and None,
    )


def run_uncalled_tests(job: evidence.Job, counts: list[int]) -> None:
    """Run what pytest would run, and unittest's cases when the program ran none of its own."""
    unittest = sys.modules.get("unittest")
    cases_before = counts[1]
    for name in job.uncalled:
        item = job.namespace.get(name)
        if isinstance(item, types.FunctionType):
            run_test(item)
        elif isinstance(item, type) and not (unittest and issubclass(item, unittest.TestCase)):
            if "__init__" in vars(item):  # pytest leaves those alone too: it is no class of tests
                continue
            call_setup(item, "setup_class")
            for name in [key for key in vars(item) if key.startswith("test")]:
                instance = item()
                method = getattr(instance, name)
                call_setup(instance, "setup_method", method)
                run_test(method)
    if job.run_cases and unittest and cases_before == 0:
        job.run_cases(job.namespace)


def call_setup(owner: object, name: str, *method) -> None:
    """Call what pytest calls before a test method, where the class has it; it may take the method."""
    if hasattr(owner, name):
        setup = getattr(owner, name)
        code = getattr(setup, "__code__", None)
        setup(*(method if code and code.co_argcount > 1 else ()))


def run_test(function: typing.Callable) -> None:
    """Call one test function, in an event loop when it is a coroutine."""
    result = function()
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)


def end_threads() -> None:
    """Wait for the program's threads, as the interpreter does at its end."""
    sys.modules["threading"]._shutdown()


# --- A program's process ----------------------------------------------------------------------------------------


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


def flush_output() -> None:
    """Write out what still waits in the program's files, as the interpreter does at its end."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        file = getattr(sys, name, None)
        if file is not None and not getattr(file, "closed", False):
            file.flush()


def read_output(output: int, collected: memoryview | None, printed: int) -> int:
    """Read once what the program printed, to where its output so far ends if it is collected; return the bytes."""
    try:
        return len(os.read(output, 1 << 16)) if collected is None else os.readv(output, [collected[printed:]])
    except BlockingIOError:
        return 0


def find_lines(error: BaseException) -> list[int]:
    """Return the lines of the program in an error's traceback, outermost first."""
    steps = traceback.walk_tb(error.__traceback__)
    return [line for frame, line in steps if frame.f_code.co_filename == evidence.NAME]


def report(verdict: str, error: BaseException | None, count: int, message: str = "") -> bytes:
    """Encode what the server needs to know of a finished program."""
    kind = ""
    line = 0
    if error is not None:
        kind = type(error).__name__
        line = (find_lines(error) or [0])[-1]
        with contextlib.suppress(BaseException):  # both may run code of the program
            message = str(error)[:2000]
        with contextlib.suppress(BaseException):
            if isinstance(error, SyntaxError) and type(error.lineno) is int:
                line = error.lineno
    return "\x1f".join((verdict, str(count), str(line), kind, message)).encode("utf-8", "backslashreplace")


def run_program(_: None, job: evidence.Job | None, prepare: typing.Callable, request: dict, counts: list[int]) -> bytes:
    """Run a program as `__main__` and report how it ended; the first argument closed the token's pipe."""
    if job is None:
        try:
            job = prepare(request)
        except evidence.SYNTAX_ERRORS as error:
            return report("syntax", error, 0)
    random.seed(0)
    for hook in job.hooks:
        hook()
    error = call_program(exec, job.code, job.namespace)
    # `unittest.main()` or `sys.exit(main())` at the end is a whole run; an exit that leaves work undone is not.
    if type(error) is SystemExit and (error.code is None or (isinstance(error.code, int) and error.code == 0)):
        lines = find_lines(error)
        if lines and job.last_lines.issuperset(lines):
            error = None
    if error is None:
        error = call_program(run_uncalled_tests, job, counts)
    if error is None and "threading" in sys.modules:
        error = call_program(end_threads)
    if error is None and request["collect"]:
        error = call_program(flush_output)
    if isinstance(error, MemoryError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
    if posix_getpid() != 1:
        posix_exit(0)  # a fork of the program that came back here has nothing to attest
    if error is None and counts[0] and counts[2] < job.top_level:
        missing = f"{job.top_level - counts[2]} of {job.top_level} assertions on module level were not executed"
        return report("early_exit", None, counts[0], missing)
    if error is None:
        return report("passed" if counts[0] else "no_tests", None, counts[0])
    verdicts = ((AssertionError, "assertion"), (MemoryError, "memory"), (SystemExit, "early_exit"))
    verdict = next((name for kind, name in verdicts if isinstance(error, kind)), "exception")
    return report(verdict, error, counts[0])


def guard(
    event: str,
    arguments: tuple,
    events: frozenset = FORBIDDEN_EVENTS,
    imports: frozenset = FORBIDDEN_IMPORTS,
    ours: tuple = (globals(), vars(evidence)),
) -> None:
    """Audit hook: refuse what leads to harness state or to native memory."""
    if event in events or event.startswith("ctypes."):
        raise PermissionError(f"{event} is not available in the sandbox")
    if event == "import" and arguments[0].rpartition(".")[2] in imports:  # an entry is found by the name's last part
        raise ImportError(f"{arguments[0]} is not available in the sandbox", name=arguments[0])
    if event == "object.__setattr__":
        space = getattr(arguments[0], "__globals__", None)
        if space is ours[0] or space is ours[1]:
            raise PermissionError("the harness is not yours to change")


class Core:
    """Runs one program after another, each in a fork of its own.

    Args:
        settings: `SandboxSettings` as a dictionary, and what the server adds.
        filter_code: The system call filter.
        prepare: Compiles a request into a job.
    """

    name = "python"

    def __init__(self, settings: dict, filter_code: bytes, prepare: typing.Callable):
        self.settings, self.filter_code, self.prepare = settings, filter_code, prepare
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.own = os.pidfd_open(os.getpid())
        self.counts = [0, 0, 0]
        self.isolation = self._plan_isolation()

    def recorders(self, has_tests: bool) -> evidence.Recorders:
        """Return the functions that a program's evidence goes to."""
        return make_recorders(self.counts, has_tests)

    def run(self, job: evidence.Job | None, request: dict, collected: memoryview | None) -> dict:
        """Fork, isolate, run and watch one program; return what was seen of it. What it prints goes to `collected`.

        Raises:
            OSError: the fork did not come about.
        """
        start = time.monotonic()
        # A process may have one pid namespace prepared for its children; going back to its own allows the next.
        call(self.libc, "setns", self.own, CLONE_NEWPID)
        call(self.libc, "unshare", CLONE_NEWPID)
        output, program_output = os.pipe()  # a new one each time: its flags and size are the program's to change
        os.set_blocking(output, False)
        control, program_control = os.pipe()
        program_token, give_token = os.pipe()
        pid = os.fork()
        if pid == 0:
            room = 0 if collected is None else len(collected)
            self._be_program(job, request, room, (program_output, program_control, program_token))
        for descriptor in (program_output, program_control, program_token):
            os.close(descriptor)
        token = os.urandom(32)  # made after the fork: the program's process has no copy in memory
        with contextlib.suppress(BrokenPipeError):
            os.write(give_token, token)
        os.close(give_token)
        broken, printed, said = self._watch(pid, output, control, request, collected)
        _, status, usage = os.wait4(pid, 0)
        while data := os.read(control, 1 << 16):  # every writer is dead, so this ends
            said += data
        limit = request["output_kb"] * 1024
        while printed <= limit and (part := read_output(output, collected, printed)):
            printed += part
        os.close(control)
        os.close(output)
        if not broken and printed > limit:
            broken = "output_limit"
        cpu = usage.ru_utime + usage.ru_stime
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not broken and killed and cpu >= request["cpu_s"]:
            broken = "timeout_cpu"  # by RLIMIT_CPU: on many cores it may come first
        marks, attested, text = said.partition(token)
        verdict, count, line, kind, message = "", "0", "0", "", ""
        if attested:
            verdict, count, line, kind, message = text.decode("utf-8", "replace").split("\x1f", 4)
        elif STARTED not in marks:
            message = marks.decode("utf-8", "replace")
        return {
            "broken": broken,
            "started": STARTED in marks,
            "attested": bool(attested),
            "verdict": verdict,
            "kind": kind,
            "message": message,
            "line": int(line),
            "false_assertion": FALSE in marks,
            "failed_case": FAILED_CASE in marks,
            "assertions": int(count),
            "status": status,
            "printed": printed,
            "cpu_s": cpu,
            "wall_s": time.monotonic() - start,
            "max_rss_mb": usage.ru_maxrss / 1024,
            "waits": usage.ru_nvcsw,
            "preemptions": usage.ru_nivcsw,
        }

    def _be_program(self, job: evidence.Job | None, request: dict, room: int, pipes: tuple[int, int, int]) -> None:
        """Become the program's process, which has inherited the room for its output; never return."""
        self._isolate(request, room, pipes)
        prepare, counts = self.prepare, self.counts
        del self.libc, self.isolation, self.filter  # with them gone, nothing leads to ctypes
        globals().pop("ctypes")
        sys.addaudithook(guard)
        posix_write(CONTROL, STARTED)
        try:
            # One expression: the token is read first and waits on the value stack, without a name, for the report.
            posix_write(CONTROL, posix_read(TOKEN, 32) + run_program(posix_close(TOKEN), job, prepare, request, counts))
        finally:
            posix_exit(0)

    def _isolate(self, request: dict, room: int, pipes: tuple[int, int, int], first: int = CONTROL) -> None:
        """Take the new process's privileges, and all descriptors but its output and those from `first` on."""
        output, control, token = pipes
        for source, target in ((output, 1), (output, 2), (control, CONTROL), (token, TOKEN)):
            os.dup2(source, target)
        os.closerange(3, first)
        os.setsid()  # process groups reach across pid namespaces: without this, kill(0, 9) would meet the server
        cpu = math.ceil(2 * request["cpu_s"]) + 1  # the kernel's own limit counts by ticks; the server's decides
        steps = [
            self._plan_limit(resource.RLIMIT_CPU, cpu, cpu),
            *self._plan_memory((self.settings["memory_mb"] << 20) + room),
            *self.isolation,
        ]
        if request["network"]:
            steps.insert(0, (self._take_network,))
        for function, *arguments in steps:
            if function(*arguments) != 0:
                posix_write(CONTROL, f"{function.__name__}: {os.strerror(ctypes.get_errno())}".encode())
                posix_exit(1)

    def _plan_memory(self, memory: int) -> list[tuple]:
        """Return the calls that limit a process's memory."""
        return [self._plan_limit(resource.RLIMIT_AS, memory, memory + (64 << 20))]

    def _plan_isolation(self) -> list[tuple]:
        """Return the calls that take a process's privileges: all is made ready here, so that a fork copies little."""
        settings, megabyte = self.settings, 1 << 20
        size = f"size={settings['disk_mb']}m,nr_inodes=4096,mode=755".encode()
        # no executables: a library that a program wrote is not loaded
        tmpfs = (b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
        plan = [(self.libc.unshare, CLONE_NEWNS)]
        plan += [(self.libc.mount, b"tmpfs", target, *tmpfs) for target in (b"/tmp", b"/dev/shm")]
        plan += [(self.libc.mkdir, evidence.WORK.encode(), 0o755), (self.libc.chdir, evidence.WORK.encode())]
        disk = settings["disk_mb"] * megabyte
        limits = {
            resource.RLIMIT_FSIZE: (disk, disk),
            resource.RLIMIT_NOFILE: (CONTROL + 2, CONTROL + 2),
            resource.RLIMIT_NPROC: (settings["processes_in_all"],) * 2,
            resource.RLIMIT_STACK: (8 * megabyte, 8 * megabyte),
            resource.RLIMIT_CORE: (0, 0),
            resource.RLIMIT_MEMLOCK: (0, 0),
            resource.RLIMIT_MSGQUEUE: (0, 0),
            resource.RLIMIT_SIGPENDING: (256, 256),
        }
        plan += [self._plan_limit(limit, *values) for limit, values in limits.items()]
        plan.append((self.libc.capset, struct.pack("Ii", 0x20080522, 0), bytes(24)))
        plan.append((self.libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        self.filter = ctypes.create_string_buffer(self.filter_code, len(self.filter_code))
        program = struct.pack("HxxxxxxP", len(self.filter_code) // 8, ctypes.addressof(self.filter))
        plan.append((self.libc.prctl, PR_SET_SECCOMP, 2, program, 0, 0))
        return plan

    def _plan_limit(self, limit: int, *values: int) -> tuple:
        """Return the call that sets the soft and hard value of a limit, or the machine's own where that is lower."""
        ceiling = resource.getrlimit(limit)[1]
        if ceiling != resource.RLIM_INFINITY:
            values = [min(value, ceiling) for value in values]
        return self.libc.setrlimit, limit, struct.pack("LL", *values)

    def _take_network(self) -> int:
        """Take a network of its own for a program that may use one: the worker's remembers ports for a minute."""
        if result := self.libc.unshare(CLONE_NEWNET):
            return result
        descriptor = self.libc.socket(2, 2, 0)  # of the internet, for datagrams
        result = self.libc.ioctl(descriptor, SIOCSIFFLAGS, LOOPBACK_UP)
        os.close(descriptor)
        return result

    def _watch(
        self, pid: int, output: int, control: int, request: dict, collected: memoryview | None
    ) -> tuple[str, int, bytes]:
        """Drain a program's pipes until it ends or breaks a limit, then make sure that it is dead.

        Returns:
            The limit it broke ("" for none), the bytes it printed and what it wrote to the control pipe so far.
        """
        broken, printed, said, settings = "", 0, b"", self.settings
        cpu_s, limit = request["cpu_s"], request["output_kb"] * 1024
        process = os.pidfd_open(pid)
        poller = select.poll()
        for descriptor in (output, control, process):
            poller.register(descriptor, select.POLLIN)
        window = cpu_s * settings["wall_factor"]
        progress = window / settings["progress"]
        deadline, cpu_before, extensions = time.monotonic() + window, 0.0, 0
        check = time.monotonic() + cpu_s  # when it may have used its CPU time at the earliest
        running = True
        while running:
            for descriptor, events in poller.poll(max(0.0, min(deadline, check) - time.monotonic()) * 1000 + 1):
                if descriptor == process:
                    running = False
                elif not events & select.POLLIN:
                    poller.unregister(descriptor)  # the program closed its end
                elif descriptor == output:
                    printed += read_output(output, collected, printed)
                elif len(data := os.read(control, 1 << 16)) + len(said) < 1 << 20:
                    said += data
            now = time.monotonic()
            if printed > limit:
                broken = "output_limit"
            elif running and now >= min(deadline, check):
                cpu = time.clock_gettime((~pid << 3) | 2)  # the kernel's number for a process's CPU clock
                check = now + max(cpu_s - cpu, 0.005)
                if cpu >= cpu_s:
                    broken = "timeout_cpu"
                elif now >= deadline and cpu - cpu_before > progress and extensions < settings["extensions"]:
                    deadline, cpu_before, extensions = now + window, cpu, extensions + 1  # slow: the machine is busy
                elif now >= deadline:
                    broken = "timeout_wall"
            if broken and running:
                os.kill(pid, signal.SIGKILL)  # process 1 of its namespace: the kernel ends all the others with it
                running = False
        os.close(process)
        return broken, printed, said
