"""The trusted side of the sandbox: workers, each one bubblewrap around a fork server, and the verdicts they send."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfalign.languages.javascript import find_node
from selfalign.records.rows import Verdict
from selfalign.sandbox import launch
from selfalign.sandbox.build import REMEDY, core_file
from selfalign.sandbox.host import SandboxUnavailable, explain, find_bwrap
from selfalign.sandbox.inside import server
from selfalign.sandbox.packages import find_imports, locate_packages
from selfalign.sandbox.settings import Program, SandboxSettings

ATTEMPTS = 3  # for a program whose sandbox broke, or which the machine gave too little CPU time
BROKEN_IN_A_ROW = 10  # programs after which the sandbox is taken to be broken for all
RECYCLE = 2_000  # programs of one worker: what leaks in a long-lived process stays small
GRACE_S = 30.0  # beyond every limit that the server itself keeps
ANSWER_LIMIT = 1 << 16  # bytes of an answer without what a program printed; a longer one is none of the server's
START_S = 300.0  # wall time; packages take seconds of CPU time to import, minutes on a machine that is very busy
PACKAGES = "/packages"  # where they are inside; what lies below /tmp is the server's, programs have a /tmp of their own
SERVER, CORE = "/tmp/inside", "/tmp/core.so"
NODE, HARNESS = "/node", "/harness.js"  # programs see them, and have a /tmp of their own
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")
DEVICES = ("null", "zero", "full", "random", "urandom")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "USER": "user",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "1",  # each arena of a thread would take 64 MiB of the program's address space
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "agg",  # matplotlib would try every toolkit for windows in turn
}


class WorkerDied(Exception):
    """A worker ended or fell silent; the text says what it left on standard error."""


def interpreter_binds() -> tuple[str, list[list[str]]]:
    """Return the base interpreter's path and the [source, target] pairs that it needs, all at the same place inside."""
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    base = os.path.realpath(sys.base_prefix)
    wanted = [executable, f"{base}/lib", *([f"{base}/lib64"] if os.path.isdir(f"{base}/lib64") else [])]
    system = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
    binds = [[path, path] for path in wanted if not f"{path}/".startswith(system)]
    return executable, binds


def find_core(core: str | None) -> Path | None:
    """Return the file of the C core to use, None for the core in Python.

    Args:
        core: "c", "python", or None for the C core where there is one.

    Raises:
        SandboxUnavailable: "c" is asked for and was not built.
        ValueError: there is no such core.
    """
    if core not in (None, "c", "python"):
        raise ValueError(f"sandbox: core is {core!r}; it can be c or python")
    found = None if core == "python" else core_file()
    if core == "c" and found is None:
        raise SandboxUnavailable(f"the sandbox's C core was not built for this Python; {REMEDY}")
    return found


def build_command(bwrap: str, packages: dict[str, str], core: Path | None, node: str | None = None) -> list[str]:
    """Return the command of one worker: the launcher, which becomes bubblewrap, which runs the fork server.

    Args:
        packages: {name below /packages: path on the host}.
        core: The C core, or None.
        node: Node, for programs in JavaScript.
    """
    executable, binds = interpreter_binds()
    options = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    # Over the sandbox's own user namespace only; every program drops it before it starts.
    options += ["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_NET_ADMIN"]
    options += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    for path in LIBRARIES:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            binds.append([path, path])
    binds += [[path, f"{PACKAGES}/{name}"] for name, path in packages.items()]
    binds.append([str(Path(server.__file__).parent), SERVER])
    if core:
        binds.append([str(core), CORE])
    if node:
        binds += [[node, NODE], [str(Path(server.__file__).with_name("harness.js")), HARNESS]]
    for name in DEVICES:
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, value in ENVIRONMENT.items():
        options += ["--setenv", name, value]
    # No /proc: nothing in it is worth its memory files and sysctls.
    options += ["--dir", "/dev/shm", "--remount-ro", "/", "--chdir", "/tmp"]
    # -s -P -S: no site packages, no working folder on the path; -I would ignore PYTHONHASHSEED.
    loader = "import sys; sys.path.append('/tmp'); from inside.server import serve; sys.path.pop(); serve()"
    command = [executable, "-s", "-P", "-S", "-c", loader]
    # Packages want a writable folder when they are imported: matplotlib for its fonts, joblib to look for one.
    job = {"bwrap": bwrap, "first": ["--tmpfs", "/tmp"], "binds": binds, "options": options, "command": command}
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(job)]


class Worker:
    """One bubblewrap with its fork server, which has some packages preloaded; runs one program at a time.

    Args:
        kind: Import names of the packages that its programs can use.
        packages: What these packages need, as for `build_command`.
        node: Node, where its programs are in JavaScript.

    Raises:
        SandboxUnavailable: it does not start.
    """

    def __init__(
        self,
        bwrap: str,
        settings: SandboxSettings,
        *,
        kind: tuple[str, ...] = (),
        packages: dict[str, str] | None = None,
        core: Path | None = None,
        node: str | None = None,
    ):
        self.kind = kind
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in close()
        self.process = subprocess.Popen(
            build_command(bwrap, packages or {}, core, node),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            bufsize=0,
            env={"LC_ALL": "C.UTF-8"},
        )
        os.set_blocking(self.process.stdin.fileno(), False)
        self.done = 0
        self.program: Program | None = None
        self.deadline = time.monotonic() + START_S
        self.settings = settings
        try:
            path = [PACKAGES] if kind else []
            frame = dataclasses.asdict(settings) | {"packages": kind, "path": path, "core": core and CORE}
            self._send(frame | {"node": node and NODE, "harness": HARNESS})
            hello = self._receive()
            if "ready" not in hello:
                raise WorkerDied(hello["error"])
        except WorkerDied as error:
            self.close()
            if kind:
                raise SandboxUnavailable(
                    f"a worker with the packages {', '.join(kind)} does not start ({error}). If they can be imported "
                    f"outside ({sys.executable} -c 'import {', '.join(kind)}'), they need something that is not in the "
                    "sandbox; take them out of the sandbox's packages"
                ) from error
            raise SandboxUnavailable(explain(str(error))) from error
        self.core = hello["core"]

    def fileno(self) -> int:
        """Return the descriptor on which verdicts arrive."""
        return self.process.stdout.fileno()

    def _write(self, data: bytes) -> None:
        pipe = self.process.stdin.fileno()
        while data:
            if not select.select([], [pipe], [], max(0.0, self.deadline - time.monotonic()))[1]:
                raise WorkerDied(self._last_words("it does not read."))
            try:
                data = data[os.write(pipe, data) :]
            except BrokenPipeError:
                raise WorkerDied(self._last_words()) from None

    def _send(self, value: dict) -> None:
        data = json.dumps(value).encode()
        self._write(struct.pack("!I", len(data)) + data)

    def _last_words(self, reason: str = "") -> str:
        """End the worker and return the reason, what it left on standard error, and how it had ended, if it had."""
        try:
            code = self.process.wait(timeout=1)
            ended = f"(exit code {code})" if code >= 0 else f"({signal.Signals(-code).name})"
        except subprocess.TimeoutExpired:
            ended = ""
            self.process.kill()
            self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace").strip()[-2000:]
        return " ".join(f"{reason} {said} {ended}".split())

    def _read(self, size: int, limit: int) -> bytearray:
        if size > limit:
            raise WorkerDied(self._last_words(f"its answer has {size:,} bytes and may have {limit:,}."))
        data = bytearray(size)
        left = memoryview(data)
        while left:
            if not select.select([self], [], [], max(0.0, self.deadline - time.monotonic()))[0]:
                raise WorkerDied(self._last_words("no answer in time."))
            part = os.readv(self.fileno(), [left])
            if not part:
                raise WorkerDied(self._last_words())
            left = left[part:]
        return data

    def _receive(self) -> dict:
        header = self._read(4, 4)
        return json.loads(self._read(struct.unpack("!I", header)[0], ANSWER_LIMIT))

    def find_limits(self, program: Program) -> dict:
        """Return the limits of a program that are not the same for all."""
        collect = program.compare is not None
        return {
            "cpu_s": self.settings.cpu_s if program.cpu_s is None else program.cpu_s,
            "output_kb": program.compare.collect_kb if collect else self.settings.output_kb,
            "collect": collect,
        }

    def submit(self, program: Program, *, alone: bool) -> None:
        """Send a program to run.

        Args:
            alone: Let the server itself not touch the program, which may be what broke it before.
        """
        self.program = program
        limits = self.find_limits(program)
        window = limits["cpu_s"] * self.settings.wall_factor
        self.deadline = time.monotonic() + window * (server.EXTENSIONS + 1) + GRACE_S
        try:
            parts = {"code": program.code, "tests": program.tests, "data": program.data}
            self._send(parts | {"alone": alone, **limits})
        except WorkerDied:
            self.deadline = 0.0  # finish() meets it again and says what was wrong

    def finish(self) -> dict:
        """Return the answer for the program that was sent, or how the worker broke; it is idle then, or broken.

        For a program with a comparison the answer holds what it printed, as bytes, where it passed otherwise.
        """
        try:
            answer = self._receive()
            if self.program.compare is not None:
                self.deadline = max(self.deadline, time.monotonic() + GRACE_S)  # a comparison may have held us up
                answer["printed"] = self._read(answer["printed"], self.program.compare.collect_kb * 1024)
        except WorkerDied as error:
            answer = {"verdict": "sandbox_error", "detail": f"worker died: {error}"[:256], **server.NOTHING_RAN}
        self.program = None
        self.done += 1
        return answer | {"core": self.core}

    def close(self) -> None:
        """End the worker and everything in its sandbox."""
        self.process.stdin.close()  # an idle server leaves at the end of its input
        if self.program is not None:
            self.process.kill()  # its pid namespace goes with it
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def must_repeat(answer: dict) -> bool:
    """Tell whether an answer says more about the machine than about the program."""
    return answer["verdict"] == "sandbox_error" or answer["starved"]


def make_verdict(program: Program, answer: dict) -> Verdict:
    """Return the row of a program, once its comparison has seen what it printed; the answer loses that."""
    printed = answer.pop("printed")
    row = {name: value for name, value in answer.items() if name != "starved"}
    if program.compare is not None and row["verdict"] == "passed":
        wrong = program.compare(printed.decode("utf-8", "replace"))
        assert isinstance(wrong, str), f"the comparison {program.compare.key} gave {type(wrong).__name__}, not a text"
        if wrong:
            row |= {"verdict": "wrong_output", "detail": server.tidy(wrong)}
    return Verdict(id=program.id, **row)


class Sandbox:
    """Judge programs in parallel; verdicts come as they are ready, in no order.

    Programs that import packages run in workers that have them preloaded, all others in workers that cannot see them.

    Args:
        settings: Limits of each program, and the packages that it may import.
        workers: Programs that run at the same time, and the most workers of all kinds together. Their number is all
            that is held in memory, but for programs that are tried again.
        core: "c", "python", or None for the C core where it was built. JavaScript has a core of its own.
        language: Of all programs: "python" or "javascript".

    Raises:
        SandboxUnavailable: bubblewrap is missing or cannot run here, or the C core is asked for and was not built.
        ValueError: a package is not installed, or Node is not.
    """

    def __init__(self, settings: SandboxSettings, workers: int = 1, core: str | None = None, language: str = "python"):
        if workers < 1:
            raise ValueError(f"sandbox: workers must be at least 1, found {workers}")
        self.settings, self.workers = settings, workers
        self.node = find_node() if language == "javascript" else None
        self.core = None if self.node else find_core(core)
        self.bwrap = find_bwrap()
        self.packages = {} if self.node else locate_packages(settings.packages)

    def find_kind(self, program: Program) -> tuple[str, ...]:
        """Return the packages that a worker for this program has."""
        return () if self.node else find_imports(program, self.settings.packages)

    def run(self, programs: Iterable[Program]) -> Iterator[Verdict]:
        """Yield one verdict for each program.

        A program whose sandbox broke, or which got too little of a busy machine, is tried again when all others are
        done: alone, in a fresh worker. If that does not help, a broken sandbox's verdict is `sandbox_error`, which
        says nothing about the program. Nothing else is ever tried again. Call this from a thread that outlives the
        run: the workers die with it.

        Raises:
            SandboxUnavailable: a worker does not start, or the sandbox breaks for one program after the other.
        """
        again: list[Program] = []
        broken, limit = 0, max(BROKEN_IN_A_ROW, 2 * self.workers)
        with contextlib.closing(self._run_together(programs)) as attempts:
            for program, answer in attempts:
                if answer["verdict"] == "sandbox_error":
                    broken += 1
                    if broken == limit and not self._holds():
                        raise SandboxUnavailable(
                            f"the sandbox itself broke for {broken} programs in a row, the last is {program.id} "
                            f"({answer['detail']}). Run check_sandbox.py to see what this machine lacks, free memory "
                            "or use fewer workers"
                        )
                if answer["verdict"] != "sandbox_error" or broken == limit:
                    broken = 0
                if must_repeat(answer):
                    again.append(program)
                else:
                    yield make_verdict(program, answer)
        for program in again:
            for _ in range(ATTEMPTS - 1):
                answer = self._run_alone(program)
                if not must_repeat(answer):
                    break
            yield make_verdict(program, answer)

    def _open(self, kind: tuple[str, ...]) -> Worker:
        packages = {name: path for package in kind for name, path in self.packages[package].items()}
        return Worker(self.bwrap, self.settings, kind=kind, packages=packages, core=self.core, node=self.node)

    def _holds(self) -> bool:
        """Tell whether a fresh worker judges a correct program: then it was the programs that broke their workers."""
        code = "assert(1 === 1)\n" if self.node else "assert 1 == 1\n"
        return self._run_alone(Program(id="probe", code=code))["verdict"] == "passed"

    def _run_alone(self, program: Program) -> dict:
        worker = self._open(self.find_kind(program))
        try:
            worker.submit(program, alone=True)
            return worker.finish()
        finally:
            worker.close()

    def _run_together(self, programs: Iterable[Program]) -> Iterator[tuple[Program, dict]]:
        """Yield each program with the answer of its first attempt; no worker is left at the end."""
        programs = iter(programs)
        idle: list[Worker] = []
        busy: list[Worker] = []
        try:
            while True:
                while len(busy) < self.workers and (program := next(programs, None)):
                    kind = self.find_kind(program)
                    worker = next((worker for worker in idle if worker.kind == kind), None)
                    if worker:
                        idle.remove(worker)
                    else:
                        if len(busy) + len(idle) == self.workers:
                            idle.pop(0).close()
                        worker = self._open(kind)
                    busy.append(worker)
                    worker.submit(program, alone=False)
                if not busy:
                    return
                wait = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
                ready = select.select(busy, [], [], wait)[0]
                for worker in ready or [worker for worker in busy if worker.deadline <= time.monotonic()]:
                    program = worker.program
                    busy.remove(worker)
                    answer = worker.finish()
                    if answer["verdict"] == "sandbox_error" or worker.done >= RECYCLE:
                        worker.close()
                    else:
                        idle.append(worker)
                    yield program, answer
        finally:
            for worker in (*busy, *idle):
                worker.close()
