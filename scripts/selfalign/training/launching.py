"""Start one training process for each GPU, and turn the failure of any of them into one error."""

import ctypes
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable

from selfalign.records.commands import explain

PR_SET_PDEATHSIG = 1  # of prctl(2)


def is_worker() -> bool:
    """Return whether a launcher (ours, torchrun or `accelerate launch`) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_for(gpus: int) -> int:
    """Return how many processes train on so many GPUs: as many, or one where the machine has none.

    Raises:
        ValueError: the machine shows fewer GPUs than the job was given.
    """
    if gpus == 1:
        return 1
    import torch

    visible = torch.cuda.device_count()
    if not visible:
        print(f"no GPU is visible here (the job has gpu={gpus}): one CPU process trains", file=sys.stderr, flush=True)
        return 1
    if visible < gpus:
        raise ValueError(
            f"the job has gpu={gpus}, and {visible} are visible to it; look at CUDA_VISIBLE_DEVICES and at what the "
            f"batch system gives, or set --set-resources train_model:gpu={visible}"
        )
    return gpus


def use_first_gpu() -> None:
    """Hide all GPUs but the first from this process: TRL's trainer would spread one process over all that it sees."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def launch(processes: int, command: list[str]) -> None:
    """Run a Python command as so many processes that can find each other, until all have ended.

    Raises:
        ValueError: one of them ended with an error that the user can mend, or by a signal.
        SystemExit: it ended with another error, and has printed its traceback.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it would tell each failure again
    try:
        with tempfile.TemporaryDirectory(prefix="selfalign-training-") as folder:  # torch's own would stay behind
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id=str(uuid.uuid4()),
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",  # any free port, so that two trainings can share a machine
                local_addr="localhost",  # a machine's own name may lead nowhere
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(log_dir=folder),
            )
            elastic_launch(config, sys.executable)(*command)
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        told = failure.message["message"] if isinstance(failure.message, dict) else ""
        if told.startswith("ValueError: "):
            raise ValueError(told.removeprefix("ValueError: ")) from error
        if failure.exitcode < 0:
            raise ValueError(
                f"training process {rank} was ended by {signal.Signals(-failure.exitcode).name}; if nobody did that, "
                "the machine ran out of memory: lower micro_batch_size or the number of GPUs"
            ) from error
        raise SystemExit(1) from error


def work(train: Callable[[], None]) -> None:
    """Train in one of the launched processes; what the user can mend is told to the launcher, which says it once.

    The process ends with its launcher, even when that is killed: it would hold the files of the next attempt.
    """
    import torch.distributed
    from torch.distributed.elastic.multiprocessing.errors import record

    if "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    @record
    def recorded() -> None:
        try:
            train()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        except (ValueError, OSError) as error:
            if (text := explain(error)) is None:
                raise
            raise ValueError(text) from error

    try:
        recorded()
    except ValueError as error:
        if "TORCHELASTIC_ERROR_FILE" not in os.environ:
            raise
        raise SystemExit(1) from error
