"""The engine for any decoder-only model that transformers can load: own batched decoding, reproducible to the byte.

Requests are decoded in fixed groups. What a sample gets depends on its own seed, and through rounding (sums over a
batch of another size may differ in the last bit) on the sizes of its group; so groups are a function of the list of
requests alone, and one is either stored whole or run again.
"""

import os
import warnings
from collections.abc import Collection, Iterable, Iterator

from selfalign.engines.models import Model
from selfalign.engines.port import TOO_LONG, Completion, EngineSettings, Request, Usage
from selfalign.engines.text import StopScanner, encode

BATCH_SIZE = 64


class TransformersEngine:
    """Decodes with `selfalign.engines.decoders` on the CPU, or on a GPU when there is one."""

    def __init__(self, model: Model, settings: EngineSettings):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(settings.threads)
        from selfalign.engines.decoders import SharedPrefixDecoder, choose_decoder

        folder = str(model.folder())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
                self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=settings.dtype)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder}: transformers cannot load this model: {error}") from error
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        context = getattr(self.model.config, "max_position_embeddings", None)
        self.max_model_len = settings.max_model_len or context or 2**31
        self.batch_size = settings.batch_size or BATCH_SIZE
        ends = self.model.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        with torch.inference_mode():
            self.decoder = choose_decoder(self.model, self.max_model_len)
        self.shares_prefix = isinstance(self.decoder, SharedPrefixDecoder)
        self.usage = Usage(cached_prompt_tokens=0)
        self._scanners: dict[tuple[str, ...], StopScanner] = {}

    def complete(self, requests: Iterable[Request], done: Collection[str] = ()) -> Iterator[list[Completion]]:
        """Yield the completions of one group of requests after another (see `Engine.complete`)."""
        requests = list(requests)
        tokens = {request.id: encode(self.tokenizer, request.prompt) for request in requests}
        fitting = [
            request for request in requests if len(tokens[request.id]) + request.max_tokens <= self.max_model_len
        ]
        unfit = {request.id for request in requests} - {request.id for request in fitting}
        refused = [
            Completion(
                id=request.id,
                k=k,
                text="",
                finish_reason=TOO_LONG,
                prompt_tokens=len(tokens[request.id]),
                completion_tokens=0,
            )
            for request in requests
            if request.id in unfit and request.id not in done
            for k in range(request.n)
        ]
        if refused:
            yield refused
        for group in make_groups(fitting, {key: len(value) for key, value in tokens.items()}, self.batch_size):
            if all(request.id in done for request in group):
                continue
            completions = []
            for batch in split_samples(group, self.batch_size, mixed=self.decoder.mixes_lengths):
                completions.extend(self._decode([(request, k, tokens[request.id]) for request, k in batch]))
            order = {request.id: position for position, request in enumerate(group)}
            yield sorted(completions, key=lambda completion: (order[completion.id], completion.k))

    def _decode(self, batch: list[tuple[Request, int, list[int]]]) -> Iterator[Completion]:
        """Decode the samples of one batch; those of one request stand side by side."""
        import numpy
        import torch

        firsts = [row for row, (request, _, _) in enumerate(batch) if not row or batch[row - 1][0] is not request]
        prompts = [batch[row][2] for row in firsts]
        copies = [after - row for row, after in zip(firsts, [*firsts[1:], len(batch)], strict=True)]
        limit = max(request.max_tokens for request, _, _ in batch)
        draws = numpy.stack(
            [numpy.random.Generator(numpy.random.Philox(key=request.seeds[k])).random(limit) for request, k, _ in batch]
        )
        device = self.model.device
        draws = torch.from_numpy(draws).to(device)
        temperature = torch.tensor([request.temperature for request, _, _ in batch], device=device)
        top_p = torch.tensor([request.top_p for request, _, _ in batch], device=device, dtype=torch.float64)
        scanners = [self._scanner(request.stop) for request, _, _ in batch]
        written: list[list[int]] = [[] for _ in batch]
        rows = list(range(len(batch)))  # which sample of the batch each row of the decoder is
        with torch.inference_mode():
            logits = self.decoder.start(prompts, copies, limit)
            for at in range(limit):
                picked = torch.tensor(rows, device=device)
                chosen = sample(logits, draws[picked, at], temperature[picked], top_p[picked])
                alive = []
                for row, token in enumerate(chosen.tolist()):
                    index = rows[row]
                    request, k, prompt = batch[index]
                    written[index].append(token)
                    finish, text = None, None
                    if token in self.ends:
                        finish, text = "stop", scanners[index].text(prompt, written[index][:-1])
                    elif scanners[index].may_end(token):
                        text, ended = scanners[index].cut(prompt, written[index])
                        finish = "stop" if ended else None
                    if finish is None and len(written[index]) == request.max_tokens:
                        finish, text = "length", scanners[index].text(prompt, written[index])
                    if finish is None:
                        alive.append(row)
                        continue
                    yield Completion(
                        id=request.id,
                        k=k,
                        text=text,
                        finish_reason=finish,
                        prompt_tokens=len(prompt),
                        completion_tokens=len(written[index]),
                    )
                    self.usage.completion_tokens += len(written[index])
                if not alive:
                    break
                if len(alive) < len(rows):
                    order = self.decoder.keep(torch.tensor(alive, device=device)).tolist()
                    rows = [rows[row] for row in order]
                    chosen = chosen[order]
                logits = self.decoder.step(chosen)
        total = sum(len(prompt) for _, _, prompt in batch)
        self.usage.prompt_tokens += total
        prefix = self.decoder.prefix if self.shares_prefix else 0
        self.usage.cached_prompt_tokens += total - prefix - sum(len(prompt) - prefix for prompt in prompts)

    def _scanner(self, stop: tuple[str, ...]) -> StopScanner:
        if stop not in self._scanners:
            self._scanners[stop] = StopScanner(self.tokenizer, stop)
        return self._scanners[stop]


def sample(logits, draws, temperature, top_p):
    """Choose one token per row by inverse CDF.

    Args:
        logits: [rows, vocabulary].
        draws: Uniform numbers [rows], float64.
        temperature: [rows]; 0 takes the likeliest token.
        top_p: [rows], float64.

    Returns: tokens [rows].
    """
    import torch

    likeliest = logits.argmax(-1)
    if not bool((temperature > 0).any()):
        return likeliest
    scaled = logits.float() / temperature.clamp(min=1e-6)[:, None]
    chances = torch.softmax(scaled, -1, dtype=torch.float64)
    if bool((top_p < 1).any()):
        ranked, order = chances.sort(stable=True, descending=True)
        ranked[ranked.cumsum(-1) - ranked >= top_p[:, None]] = 0
        chances = torch.zeros_like(chances).scatter_(-1, order, ranked)
    mass = chances.cumsum(-1)
    chosen = torch.searchsorted(mass, (draws * mass[:, -1])[:, None], right=True)[:, 0]
    return torch.where(temperature > 0, chosen.clamp(max=logits.shape[1] - 1), likeliest)


def make_groups(requests: list[Request], lengths: dict[str, int], size: int) -> list[list[Request]]:
    """Divide requests into groups of about `size` samples that share their prefix and are of similar length.

    A function of the list alone. Groups of one prefix are of nearly equal size; a request with more samples than
    `size` stands alone.
    """
    by_prefix: dict[str, list[Request]] = {}
    for request in requests:
        by_prefix.setdefault(request.prompt[: request.shared], []).append(request)
    groups = []
    for alike in by_prefix.values():
        alike.sort(key=lambda request: lengths[request.id])
        samples = sum(request.n for request in alike)
        target = -(-samples // -(-samples // size))
        group, filled = [], 0
        for request in alike:
            if (group and filled + request.n > size) or filled >= target:
                groups.append(group)
                group, filled = [], 0
            group.append(request)
            filled += request.n
        if group:
            groups.append(group)
    return groups


def split_samples(group: list[Request], size: int, *, mixed: bool) -> Iterator[list[tuple[Request, int]]]:
    """Yield the samples (request, k) of a group in batches of at most `size`, of several requests when `mixed`."""
    for requests in [group] if mixed else [[request] for request in group]:
        samples = [(request, k) for request in requests for k in range(request.n)]
        for low in range(0, len(samples), size):
            yield samples[low : low + size]
