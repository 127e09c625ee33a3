"""The trusted side of the sandbox: workers, each one bubblewrap around a fork server, and the verdicts they send."""

import importlib.util
import json
import math
import os
import platform
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfalign.records.rows import Verdict
from selfalign.sandbox import inside, launch
from selfalign.sandbox.settings import Program, SandboxSettings

ATTEMPTS = 3  # for a program whose sandbox broke
RECYCLE = 2_000  # programs of one worker: what leaks in a long-lived process stays small
GRACE_S = 30.0  # beyond every limit that the server itself keeps
START_S = 60.0
KERNEL = (5, 14)  # process limits count per user namespace since then
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
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class SandboxUnavailable(ValueError):
    """The machine cannot run the sandbox; the text names the cause and the remedy."""


class WorkerDied(Exception):
    """A worker ended or fell silent; the text says what it left on standard error."""


def find_bwrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        SandboxUnavailable: it is not installed, or this is not a Linux that can run it.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable(f"the sandbox needs Linux, this is {sys.platform}; run it in a Linux machine or VM")
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < KERNEL:
        raise SandboxUnavailable(f"the sandbox needs Linux 5.14 or newer, this is {platform.release()}")
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailable(
            "bubblewrap (bwrap) is not installed or not on PATH, and programs are never run without it; "
            "install it: apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora, RHEL)"
        )
    return path


def explain(message: str) -> str:
    """Turn what bubblewrap says into cause and remedy."""
    causes = (
        (
            "No permissions to creat",
            "this machine does not let ordinary users make namespaces. On the host: "
            "sysctl -w kernel.unprivileged_userns_clone=1 (Debian kernels). In a container: allow the calls unshare, "
            "clone and mount, for example docker run --security-opt seccomp=unconfined",
        ),
        (
            "max_*_namespaces",
            "user namespaces are switched off or used up. As root: sysctl -w user.max_user_namespaces=15000 "
            "(to keep it: echo user.max_user_namespaces=15000 > /etc/sysctl.d/90-userns.conf)",
        ),
        (
            "ENOSPC",
            "user namespaces are switched off or used up. As root: sysctl -w user.max_user_namespaces=15000 "
            "(to keep it: echo user.max_user_namespaces=15000 > /etc/sysctl.d/90-userns.conf)",
        ),
        (
            "setting up uid map",
            "AppArmor keeps ordinary users from user namespaces (Ubuntu 23.10 and newer). As root, for bubblewrap "
            "alone: write `abi <abi/4.0>, include <tunables/global> profile bwrap /usr/bin/bwrap flags=(unconfined) "
            "{ userns, }` to /etc/apparmor.d/bwrap and run apparmor_parser -r /etc/apparmor.d/bwrap; or for all: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "loopback: Failed RTM_NEWADDR",
            "AppArmor keeps ordinary users from user namespaces (Ubuntu 23.10 and newer). As root: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "Can't find source path",
            "the Python interpreter cannot be read by an ordinary user, and this root may not mount it elsewhere. "
            "Run as an ordinary user, or use a Python outside root's home, such as /usr/bin/python3",
        ),
        (
            "cannot give up root",
            "it must not run as root, and this root may not become another user (a container or namespace that maps "
            "only one user). Run as an ordinary user, or map more user ids",
        ),
    )
    for sign, remedy in causes:
        if sign in message:
            return f"the sandbox cannot start: {remedy}. It said: {message}"
    return f"the sandbox cannot start; it said: {message or 'nothing'}"


def interpreter_binds() -> tuple[str, list[list[str]]]:
    """Return the base interpreter's path and the [source, target] pairs that it needs, all at the same place inside."""
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    base = os.path.realpath(sys.base_prefix)
    wanted = [executable, f"{base}/lib", *([f"{base}/lib64"] if os.path.isdir(f"{base}/lib64") else [])]
    system = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
    binds = [[path, path] for path in wanted if not f"{path}/".startswith(system)]
    return executable, binds


def package_binds(packages: list[str]) -> list[list[str]]:
    """Return the [source, target] pairs of named packages of the running environment.

    Raises:
        ValueError: a package is not installed.
    """
    binds = []
    for name in packages:
        found = importlib.util.find_spec(name) if name.isidentifier() else None
        if found is None or found.origin is None:
            raise ValueError(f"sandbox settings: package {name!r} is not installed beside {sys.executable}")
        origin = Path(found.origin)
        source = origin.parent if found.submodule_search_locations else origin
        binds.append([str(source), f"/packages/{source.name}"])
        bundled = source.with_name(f"{name}.libs")
        if bundled.is_dir():
            binds.append([str(bundled), f"/packages/{bundled.name}"])
    return binds


def build_command(bwrap: str, settings: SandboxSettings) -> list[str]:
    """Return the command of one worker: the launcher, which becomes bubblewrap, which runs the fork server."""
    executable, binds = interpreter_binds()
    options = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    # Over the sandbox's own user namespace only; every program drops it before it starts.
    options += ["--cap-add", "CAP_SYS_ADMIN", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    for path in LIBRARIES:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            binds.append([path, path])
    binds += package_binds(settings.packages)
    for name in DEVICES:
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, value in ENVIRONMENT.items():
        options += ["--setenv", name, value]
    # No /proc: nothing in it is worth its memory files and sysctls.
    options += ["--dir", "/dev/shm", "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    # -s -P -S: no site packages, no working folder on the path; -I would ignore PYTHONHASHSEED.
    loader = "import os;exec(compile(open(0,'rb',0,closefd=False).read(int(os.read(0,8))).decode(),'<sandbox>','exec'))"
    command = [executable, "-s", "-P", "-S", "-c", loader]
    job = {"bwrap": bwrap, "binds": binds, "options": options, "command": command}
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(job)]


class Worker:
    """One bubblewrap with its fork server; runs one program at a time."""

    def __init__(self, bwrap: str, settings: SandboxSettings):
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in close()
        self.process = subprocess.Popen(
            build_command(bwrap, settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            bufsize=0,
            env={"LC_ALL": "C.UTF-8"},
        )
        self.done = 0
        self.program: Program | None = None
        self.deadline = math.inf
        self.limit_s = settings.cpu_s * settings.wall_factor * (inside.EXTENSIONS + 1) + GRACE_S
        source = Path(inside.__file__).read_bytes()
        try:
            self._write(b"%8d" % len(source) + source)
            path = ["/packages"] if settings.packages else []
            self._send(settings.dump() | {"path": path})
            hello = self.receive(time.monotonic() + START_S)
        except WorkerDied as error:
            self.close()
            raise SandboxUnavailable(explain(str(error))) from error
        if "ready" not in hello:
            self.close()
            raise SandboxUnavailable(hello["error"])
        self.python = hello["ready"]

    def fileno(self) -> int:
        """Return the descriptor on which verdicts arrive."""
        return self.process.stdout.fileno()

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self.process.stdin.fileno(), data) :]
        except BrokenPipeError:
            raise WorkerDied(self._last_words()) from None

    def _send(self, value: dict) -> None:
        data = json.dumps(value).encode()
        self._write(struct.pack("!I", len(data)) + data)

    def _last_words(self) -> str:
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace").strip()[-2000:]

    def _read(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise WorkerDied(f"no answer in time. {self._last_words()}")
            part = os.read(self.fileno(), size - len(data))
            if not part:
                raise WorkerDied(self._last_words())
            data += part
        return data

    def submit(self, program: Program) -> None:
        """Send a program to run."""
        self.program = program
        self.deadline = time.monotonic() + self.limit_s
        self._send({"code": program.code, "tests": program.tests})

    def receive(self, deadline: float) -> dict:
        """Read one answer; the worker is idle then.

        Raises:
            WorkerDied: the server ended or did not answer by the deadline (monotonic seconds).
        """
        header = self._read(4, deadline)
        answer = json.loads(self._read(struct.unpack("!I", header)[0], deadline))
        self.program = None
        return answer

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


class Sandbox:
    """Judge programs in parallel; verdicts come as they are ready, in no order.

    Args:
        settings: Limits of each program.
        workers: Programs that run at the same time; their number is all that is held in memory.

    Raises:
        SandboxUnavailable: bubblewrap is missing or cannot run here.
    """

    def __init__(self, settings: SandboxSettings, workers: int = 1):
        if workers < 1:
            raise ValueError(f"sandbox: workers must be at least 1, found {workers}")
        self.settings, self.workers = settings, workers
        self.bwrap = find_bwrap()

    def run(self, programs: Iterable[Program]) -> Iterator[Verdict]:
        """Yield one verdict for each program.

        A program whose sandbox broke is tried again in a fresh one; if that does not help, its verdict is
        `sandbox_error`, which says nothing about the program. Call this from a thread that outlives the run: the
        workers die with it.
        """
        programs = iter(programs)
        again: deque[tuple[Program, int]] = deque()
        tries: dict[Worker, int] = {}
        idle: list[Worker] = []
        busy: list[Worker] = []
        try:
            while True:
                while len(busy) < self.workers:
                    program, attempt = again.popleft() if again else (next(programs, None), 1)
                    if program is None:
                        break
                    worker = idle.pop() if idle else Worker(self.bwrap, self.settings)
                    busy.append(worker)
                    tries[worker] = attempt
                    try:
                        worker.submit(program)
                    except WorkerDied:
                        worker.deadline = 0.0  # met below, where every broken worker is
                if not busy:
                    return
                wait = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
                ready = select.select(busy, [], [], wait)[0]
                for worker in ready or [worker for worker in busy if worker.deadline <= time.monotonic()]:
                    program, attempt = worker.program, tries.pop(worker)
                    busy.remove(worker)
                    try:
                        answer = worker.receive(worker.deadline)
                    except WorkerDied as error:
                        answer = {"verdict": "sandbox_error", "detail": f"worker died: {error}"[:256]}
                        answer |= {"cpu_s": 0.0, "wall_s": 0.0, "max_rss_mb": 0.0, "assertions": 0}
                    worker.done += 1
                    broken = answer["verdict"] == "sandbox_error"
                    if broken or worker.done >= RECYCLE:
                        worker.close()
                    else:
                        idle.append(worker)
                    if broken and attempt < ATTEMPTS:
                        again.append((program, attempt + 1))
                    else:
                        yield Verdict(id=program.id, **answer)
        finally:
            for worker in (*busy, *idle):
                worker.close()
