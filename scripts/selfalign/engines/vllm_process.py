"""What runs in each process of the vLLM engine: one vLLM, fed from a pipe, answering as samples are finished."""

import difflib
import os
import queue
import signal
import threading
import warnings
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection

import psutil

from selfalign.engines.port import TOO_LONG, Completion, EngineSettings, Request, Usage
from selfalign.engines.text import encode

QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # the model is a local folder
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
OURS = {  # arguments of vLLM that have a setting of their own
    "model": "models.*.pretrained",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "max_num_seqs": "batch_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
}


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The first answer: the model is loaded.

    Attributes:
        sequences: How many are decoded together.
        children: Processes of vLLM's own, which outlive this one when it is killed.
    """

    sequences: int
    children: list[int]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first answer otherwise: why the model cannot be loaded."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Any later answer.

    Attributes:
        samples: How many were finished since the last answer.
        groups: All samples of each request of which none is missing now.
        usage: Tokens since the start.
    """

    samples: int
    groups: list[list[Completion]]
    usage: Usage


def serve(connection: Connection, folder: str, settings: EngineSettings, gpus: list[str] | None) -> None:
    """Load the model, then complete the lists of requests that come, until the other end of the pipe is closed.

    Args:
        folder: Of the checkpoint.
        gpus: Those of this process, as CUDA_VISIBLE_DEVICES names them; None is all that there are.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end decides when to stop
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        running = Running(folder, settings)
    except ValueError as error:
        connection.send(Failure(text=str(error)))
        return
    try:
        _answer(connection, running)
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody is there to answer to
    finally:
        running.engine.engine_core.shutdown()  # or multiprocessing would wait for vLLM's own processes


def _answer(connection: Connection, running: "Running") -> None:
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    connection.send(Ready(sequences=running.sequences, children=children))
    inbox: queue.SimpleQueue[list[Request] | None] = queue.SimpleQueue()
    # Always read: both ends would wait for each other if both wrote more than the pipe holds.
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    while True:
        while running.idle() or not inbox.empty():
            requests = inbox.get()
            if requests is None:
                return
            for request in requests:
                running.add(request)
        if progress := running.step():
            connection.send(progress)


def _read(connection: Connection, inbox: "queue.SimpleQueue[list[Request] | None]") -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        inbox.put(None)


class Running:
    """A loaded vLLM engine and the requests that it is at."""

    def __init__(self, folder: str, settings: EngineSettings):
        arguments = engine_arguments(folder, settings)
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext

        check_arguments(settings.vllm, [field.name for field in fields(EngineArgs)])
        self._sampling = lambda **options: SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **options)
        try:
            # As the class LLM: with the batch sizes that vLLM has for work without anybody waiting.
            self.engine = LLMEngine.from_engine_args(EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
        except (ValueError, TypeError, OSError, RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{folder}: vLLM cannot load this model: {reason}") from error
        self.sequences = self.engine.vllm_config.scheduler_config.max_num_seqs
        self.tokenizer = self.engine.get_tokenizer()
        self.max_model_len = self.engine.model_config.max_model_len
        self.usage = Usage(cached_prompt_tokens=0)
        self._waiting: dict[str, tuple[Request, list[Completion]]] = {}
        self._refused: list[list[Completion]] = []

    def idle(self) -> bool:
        """Tell whether there is nothing to do."""
        return not self._waiting and not self._refused

    def add(self, request: Request) -> None:
        """Take on a request, as one of vLLM's for each sample: of n in one, sample k gets the first one's seed + k."""
        prompt = encode(self.tokenizer, request.prompt)
        if len(prompt) + request.max_tokens > self.max_model_len:
            refused = {"text": "", "finish_reason": TOO_LONG, "prompt_tokens": len(prompt), "completion_tokens": 0}
            self._refused.append([Completion(id=request.id, k=k, **refused) for k in range(request.n)])
            return
        self._waiting[request.id] = request, []
        for k, seed in enumerate(request.seeds):
            sampling = self._sampling(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                stop=list(request.stop),
                seed=seed,
            )
            self.engine.add_request(f"{k}/{request.id}", {"prompt_token_ids": prompt}, sampling)

    def step(self) -> Progress | None:
        """Let vLLM decode one token of each sequence; return what got finished, or None."""
        groups, self._refused = self._refused, []
        samples = sum(map(len, groups))
        for output in self.engine.step() if self._waiting else []:
            completion = self._completion(output)
            samples += 1
            request, finished = self._waiting[completion.id]
            finished.append(completion)
            if len(finished) == request.n:
                del self._waiting[completion.id]
                groups.append(sorted(finished, key=lambda sample: sample.k))
        return Progress(samples=samples, groups=groups, usage=self.usage) if samples else None

    def _completion(self, output) -> Completion:
        k, request_id = output.request_id.split("/", 1)
        sample = output.outputs[0]
        if sample.finish_reason in (None, "abort", "error"):
            raise RuntimeError(f"{request_id}: vLLM ended a request with {sample.finish_reason!r}")
        self.usage.prompt_tokens += len(output.prompt_token_ids)
        self.usage.completion_tokens += len(sample.token_ids)
        self.usage.cached_prompt_tokens += output.num_cached_tokens or 0
        return Completion(
            id=request_id,
            k=int(k),
            text=sample.text,
            finish_reason=sample.finish_reason,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(sample.token_ids),
        )


def engine_arguments(folder: str, settings: EngineSettings) -> dict:
    """Return vLLM's arguments for these settings, and set its environment, which it reads when it is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_BATCH_INVARIANT"] = str(int(settings.batch_invariant))
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)  # read when torch is imported
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    from vllm.platforms import current_platform  # not torch, which would begin with CUDA: vLLM forks before it does

    on_cpu = current_platform.is_cpu()
    if on_cpu and settings.batch_invariant:
        raise ValueError("engine vllm: batch_invariant is for GPUs; leave it out on the CPU")
    if on_cpu:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gb)
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # a GPU's scheduler has its own process
    return {
        "model": folder,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.batch_size,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # Prompts read in chunks and seeds of requests do not go together on the CPU (vLLM 0.32 and 0.33).
        **({"enable_chunked_prefill": False} if on_cpu else {}),
        **settings.vllm,
    }


def check_arguments(given: dict, known: list[str]) -> None:
    """Raise ValueError unless all further arguments are vLLM's, and none is one that has a setting here."""
    for name in given:
        if name in OURS:
            raise ValueError(f"engine vllm: {name} does not belong under vllm; set {OURS[name]} instead")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"engine vllm: {name} is no engine argument of the vLLM that is installed{hint}")
