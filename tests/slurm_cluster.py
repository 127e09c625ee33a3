"""A private SLURM cluster of one node with fake GPUs, for the tests: real daemons in a temporary folder, as root.

`SlurmCluster` starts the daemons, and its exit ends them and puts /etc/slurm back. SLURM's programs find their
configuration there only, since jobs start further ones without the variables of SLURM. The node says that it has more
processors and memory than the machine has, so that the numbers of the profile can be asked for as they are.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")
SYSTEM = Path("/etc/slurm")
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=60
InactiveLimit=0
KillWait=5
MinJobAge=900
OverTimeLimit=0
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=0
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(seconds: float, condition, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


@dataclass(frozen=True)
class Job:
    """A job as the queue shows it; the fields are those of squeue."""

    number: str
    state: str
    partition: str
    memory: str
    gpus: str
    comment: str
    name: str

    @property
    def rule(self) -> str:
        """The rule, or the id of the group."""
        return self.comment.removeprefix("rule_").partition("_wildcards_")[0]


COLUMNS = {"jobid": 12, "state": 20, "partition": 20, "minmemory": 20, "tres-per-job": 30, "comment": 150, "name": 120}
ENDED = frozenset({"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"})


class SlurmCluster:
    """The cluster; its partitions are `cpu` and `gpu`, both of the one node, which has two GPUs.

    Args:
        folder: An empty folder for everything that the daemons write.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self._before: dict[str, Path | None] = {}
        self._lock = None

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", "spool", "devices"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        for number in range(2):
            os.mknod(self.folder / f"devices/gpu{number}", 0o20666, os.makedev(1, 3))
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        configuration = CONFIGURATION.format(folder=self.folder, host=self.host, **ports)
        (self.folder / "slurm.conf").write_text(configuration)
        gpus = f"NodeName={self.host} Name=gpu Type=fake File={self.folder}/devices/gpu[0-1]\n"
        (self.folder / "gres.conf").write_text(gpus)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        try:
            self._take_system_folder()
            self._start_authentication()
            subprocess.run(["slurmctld", "-c"], check=True, capture_output=True)
            self.start_node()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if (self.folder / "slurmctld.pid").exists():
            subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30, check=False)
            with contextlib.suppress(TimeoutError, subprocess.CalledProcessError):  # the daemons end all the same
                _wait(30, lambda: all(job.state in ENDED for job in self.jobs()), "jobs ended")
        for name in ("slurmd", "slurmctld", "munged"):
            self._stop(name)
        for name, target in self._before.items():
            place = SYSTEM / name
            place.unlink(missing_ok=True)
            if target is not None:
                target.rename(place)
        if self._lock:
            os.close(self._lock)

    def _take_system_folder(self) -> None:
        SYSTEM.mkdir(exist_ok=True)
        self._lock = os.open(SYSTEM, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # one such cluster at a time on a machine
        for name in ("slurm.conf", "gres.conf"):
            place, kept = SYSTEM / name, SYSTEM / f"{name}.before-selfalign-tests"
            if place.is_symlink() and not place.exists():
                place.unlink()  # of tests that were killed
            if place.exists():
                place.rename(kept)
            self._before[name] = kept if kept.exists() else None
            place.symlink_to(self.folder / name)

    def _start_authentication(self) -> None:
        options = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        options |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        arguments = [f"--{name}={self.folder / file}" for name, file in options.items()]
        subprocess.run(["munged", "--force", *arguments], check=True, capture_output=True)

    def start_node(self, *, user_namespaces: bool = True) -> None:
        """Start the node's daemon, as one whose jobs may make user namespaces or not, and wait until it is idle."""
        command = ["slurmd", "-N", self.host]
        if user_namespaces:
            subprocess.run(command, check=True, capture_output=True)
        else:
            # The limit counts per user namespace: set inside one, it is that of the daemon and its jobs alone.
            ready = "read _; sysctl -q user.max_user_namespaces=0; exec slurmd -N " + self.host
            inside = subprocess.Popen(["unshare", "--user", "bash", "-c", f"echo; {ready}"], stdin=-1, stdout=-1)
            inside.stdout.readline()
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{inside.pid}/{name}").write_text("0 0 65536")
            inside.communicate(b"\n")
        _wait(30, lambda: "idle" in self._run("sinfo", "-h", "-o", "%T"), "the node is idle")

    def stop_node(self) -> None:
        """End the node's daemon."""
        self._stop("slurmd")

    def _stop(self, name: str) -> None:
        file = self.folder / f"{name}.pid"
        pid = int(file.read_text()) if file.exists() else None
        if pid is None or not _alive(pid):
            return
        os.kill(pid, signal.SIGTERM)
        try:
            _wait(20, lambda: not _alive(pid), f"{name} ended")
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)

    def _run(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[Job]:
        """Return all jobs that the cluster ever had, in the order in which they were submitted."""
        form = ",".join(f"{name}:{width}" for name, width in COLUMNS.items())
        found = []
        for line in self._run("squeue", "-h", "--states=all", "-O", form).splitlines():
            values, start = [], 0
            for width in COLUMNS.values():
                values.append(line[start : start + width].strip())
                start += width
            found.append(Job(*values))
        return sorted(found, key=lambda job: int(job.number))

    def update(self, job: str, setting: str) -> None:
        """Change a job, as `scontrol update` does."""
        self._run("scontrol", "update", f"JobId={job}", setting)

    def log(self) -> str:
        """Return the ends of the daemons' logs."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{file.name}:\n" + "\n".join(file.read_text().splitlines()[-40:]) for file in files)


def missing_programs() -> list[str]:
    """Return the programs of SLURM that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name)]
