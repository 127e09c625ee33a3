"""The port: what a stage asks of a model and what it gets back, whichever engine runs the model."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from selfalign.engines.models import read_model
from selfalign.records import settings as records_settings

DTYPES = ("auto", "float32", "bfloat16", "float16")
TOO_LONG = "prompt too long"
UNANSWERED = "no answer from the server"  # whose other requests were answered
DEPENDS = {  # kind to the settings that its completions can depend on, as far as the engine goes
    "transformers": ("dtype", "batch_size", "threads", "max_model_len"),
    "vllm": (
        *("dtype", "batch_size", "threads", "max_model_len"),
        *("tensor_parallel_size", "batch_invariant", "vllm"),
    ),
    "openai": ("model",),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt with its sampling settings.

    Attributes:
        id: Unique within one call.
        n: Samples wanted.
        max_tokens: Limit of each completion, in tokens.
        temperature: 0 is greedy.
        top_p: Mass of the nucleus that is sampled from; 1 is all.
        stop: Strings that end a completion; the text ends before the first one.
        seeds: One per sample, from `derive_seed`: all randomness of that sample.
        shared: Characters at the prompt's start that other requests share (a few-shot header): a hint for speed.
    """

    id: str
    prompt: str
    n: int = 1
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    shared: int = 0

    def __post_init__(self):
        assert len(self.seeds) == self.n, f"{self.id}: {len(self.seeds)} seeds for {self.n} samples"


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sample.

    Attributes:
        id: The request's.
        k: Sample number, from 0.
        text: Without the stop string.
        finish_reason: "stop" (end of text or a stop string), "length", or "prompt too long": then the text is empty,
            because prompt and `max_tokens` do not fit into the model's context. A server may give others, such as
            "content_filter", and what it refuses or fails at has a reason of its own. Only "stop" is a whole text.
        completion_tokens: With those of the stop string.
    """

    id: str
    k: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(kw_only=True)
class Usage:
    """Tokens that an engine has handled since it was opened; a prompt counts once for each sample.

    Attributes:
        cached_prompt_tokens: Prompt tokens whose key-values were not computed again; None when not known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int | None = None


class Engine(Protocol):
    """A loaded model."""

    usage: Usage

    def complete(self, requests: Iterable[Request], done: Collection[str] = ()) -> Iterator[list[Completion]]:
        """Yield groups of finished completions; a group holds all samples of each of its requests.

        Which requests run together is a function of the whole list alone. After a kill, pass the same list and the
        ids of the requests that are already stored: groups that are whole are skipped, others run again as they were,
        and yield all their completions again.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How to run a model; keys that the chosen kind has no use for are ignored.

    Attributes:
        kind: `transformers` (any decoder-only model), `vllm` (in its own environment) or `openai` (a server).
        dtype: Of weights and activations: auto (the checkpoint's), float32, bfloat16 or float16.
        batch_size: Sequences that are decoded together; None is 64 for transformers, and vLLM's own choice, which
            depends on the GPU.
        threads: CPU threads of the engine. Results are the same only for the same number.
        max_model_len: Context in tokens; None is the model's own.
        url: Base of an OpenAI-compatible server, for example http://localhost:8000/v1.
        model: Name under which the server serves the model; None is the hub id or path of the model file.
        api_key_env: Environment variable that holds the server's key, when it wants one.
        concurrency: Requests in flight at a server.
        timeout: Seconds to wait for one answer of a server.
        patience: Seconds for which a server may refuse, fail or be gone without a single answer in between.
        tensor_parallel_size: GPUs of one vLLM engine.
        data_parallel_size: vLLM engines of one job; each has a process and `tensor_parallel_size` GPUs.
        gpu_memory_utilization: Fraction of a GPU's memory that vLLM takes.
        kv_cache_gb: Memory for key-values of one vLLM engine on the CPU, in GiB.
        batch_invariant: Let vLLM compute so that a text does not depend on what runs beside it.
        vllm: Further arguments of vLLM's `EngineArgs`, by name.
    """

    kind: str = "transformers"
    dtype: str = "float32"
    batch_size: int | None = None
    threads: int = 1
    max_model_len: int | None = None
    url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 8
    timeout: float = 600.0
    patience: float = 3600.0
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    kv_cache_gb: int = 2
    batch_invariant: bool = False
    vllm: dict = field(default_factory=dict)

    def __post_init__(self):
        for name, allowed in (("kind", tuple(DEPENDS)), ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(allowed)}")
        counts = ("threads", "concurrency", "tensor_parallel_size", "data_parallel_size", "kv_cache_gb")
        for name in (*counts, "batch_size", "max_model_len"):
            value = getattr(self, name)
            if name not in counts and value is None:
                continue
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        for name, high in (("gpu_memory_utilization", 1.0), ("timeout", float("inf")), ("patience", float("inf"))):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value <= high:
                raise ValueError(f"{name} is {value!r}; it must be above 0 and at most {high:g}")
        if self.kind == "openai" and not self.url:
            raise ValueError("kind openai needs url, for example http://localhost:8000/v1")

    def identity(self) -> dict:
        """Return the settings that completions can depend on, for digests."""
        return {name: getattr(self, name) for name in ("kind", *DEPENDS[self.kind])}

    def gpus(self) -> int:
        """Return how many GPUs a job with these settings uses; a server has its own."""
        if self.kind == "openai":
            return 0
        return self.tensor_parallel_size * self.data_parallel_size if self.kind == "vllm" else 1


def load_settings(text: str) -> EngineSettings:
    """Read engine settings from JSON.

    Raises:
        ValueError: not a JSON object, an unknown key or a wrong value; names the key and what is allowed.
    """
    return records_settings.load_settings(EngineSettings, text, "engine")


def open_engine(model: str | Path, settings: str | EngineSettings) -> Engine:
    """Load a model behind the engine that the settings name.

    Args:
        model: Path of a `model.json`.
        settings: Engine settings, or their JSON text.

    Raises:
        ValueError: bad settings, no such model, or the engine's package is not installed here.
    """
    if isinstance(settings, str):
        settings = load_settings(settings)
    described = read_model(model)
    if settings.kind == "transformers":
        from selfalign.engines.transformers_engine import TransformersEngine

        return TransformersEngine(described, settings)
    if settings.kind == "vllm":
        from selfalign.engines.vllm_engine import VllmEngine

        return VllmEngine(described, settings)
    from selfalign.engines.openai_engine import OpenAIEngine

    return OpenAIEngine(described, settings)
