"""Two ways to run a decoder-only model token by token over a batch: with a shared prefix, and the general one.

Both are used alike: `start(prompts, copies, room)` reads the prompts and returns the logits of each sequence's next
token, `step(tokens)` adds one token to every sequence, `keep(rows)` drops the sequences that are finished.
"""

import inspect
import itertools

import torch
from torch.nn import functional
from transformers import DynamicCache
from transformers.modeling_utils import AttentionInterface

NAME = "selfalign_shared_prefix"
PROBE = 5  # an arbitrary token
GROW = 64  # columns by which the key-value buffers grow
PREFILL_SCORES = 4 * 2**20  # attention scores computed at once while prompts are read: 16 MB in float32


def common_prefix(prompts: list[list[int]]) -> int:
    """Return how many tokens all prompts begin with, leaving each at least one of its own."""
    limit = min(len(prompt) for prompt in prompts) - 1
    first, last = min(prompts), max(prompts)  # the smallest and the largest differ first
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def _pad_left(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens [rows, longest], padded with 0 on the left, and the number of pads [rows]."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    return tokens, torch.tensor([width - len(prompt) for prompt in prompts], device=device)


class _Model:
    """A model called for the logits of the last position only, where it knows how to."""

    def __init__(self, model):
        self.model = model
        self.device = model.device
        accepted = inspect.signature(model.forward).parameters
        self.last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.takes_positions = "position_ids" in accepted
        self.cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"

    def __call__(self, tokens: torch.Tensor, positions: torch.Tensor, **options):
        if self.takes_positions:
            options["position_ids"] = positions
        return self.model(input_ids=tokens, **self.last, **options)


class _LayerState:
    """Key-values of one layer: the prefix [heads, tokens, size], and each sequence's own [rows, heads, room, size]."""

    def __init__(self):
        self.prefix_keys = self.prefix_values = self.keys = self.values = None


class SharedPrefixDecoder:
    """Keeps the key-values itself; those of the prompts' common prefix exist once and are read as one matrix.

    For models whose attention goes through transformers' attention interface and is plain causal attention.
    """

    mixes_lengths = True

    def __init__(self, model, longest: int):
        AttentionInterface.register(NAME, _attention)
        self.call = _Model(model)
        self.longest = longest  # tokens of a sequence: a sliding window of that size changes nothing
        model.set_attn_implementation(NAME)
        self.layers: dict[int, _LayerState] = {}

    def start(self, prompts: list[list[int]], copies: list[int], room: int) -> torch.Tensor:
        """Read the prompts; return logits [sum of copies, vocabulary] of the first token of each copy."""
        self.prefix = common_prefix(prompts)
        self.layers.clear()
        self.mode = "prefix"
        if self.prefix:
            tokens = torch.tensor([prompts[0][: self.prefix]], device=self.call.device)
            self._run(tokens, torch.arange(self.prefix, device=self.call.device)[None])
        own = [prompt[self.prefix :] for prompt in prompts]
        self.width = max(map(len, own))
        self.room = min(room, GROW) + self.width
        tokens, pads = _pad_left(own, self.call.device)
        self.rows = sum(copies)
        heads = getattr(self.call.model.config, "num_attention_heads", 1)
        at_once = max(1, PREFILL_SCORES // (self.width * (self.prefix + self.width) * heads))
        logits, first = [], 0
        self.mode = "prompts"
        for low in range(0, len(prompts), at_once):
            self.copies = torch.tensor(copies[low : low + at_once], device=self.call.device)
            self.target = slice(first, first + int(self.copies.sum()))
            first = self.target.stop
            some = pads[low : low + at_once, None]
            self.skipped = int(some.min())  # columns that are padding in all of these rows
            column = torch.arange(self.skipped, self.width, device=self.call.device)
            allowed = (column <= column[:, None]) & (column >= some[:, :, None])
            self.allowed = (allowed | (column == column[:, None]))[:, None, None]  # a pad sees itself: no empty sums
            positions = (column - some).clamp(min=0) + self.prefix
            read = self._run(tokens[low : low + at_once, self.skipped :], positions)
            logits.append(read.repeat_interleave(self.copies, 0))
        self.pads = pads.repeat_interleave(torch.tensor(copies, device=self.call.device))
        self.mode = "step"
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Add one token to each sequence; return the logits [rows, vocabulary] of the next."""
        if self.width == self.room:
            self._grow()
        column = torch.arange(self.width + 1, device=self.call.device)
        self.allowed = (column >= self.pads[:, None])[:, None, None, None]
        logits = self._run(tokens[:, None], (self.width - self.pads + self.prefix)[:, None])
        self.width += 1
        return logits

    def keep(self, rows: torch.Tensor) -> torch.Tensor:
        """Drop all sequences but `rows` (ascending); return the new order, in which holes are filled from the end."""
        count = len(rows)
        order = torch.arange(count, device=rows.device)
        holes = order[~torch.isin(order, rows)]
        moved = rows[rows >= count]
        order[holes] = moved
        for layer in self.layers.values():
            layer.keys[holes, :, : self.width] = layer.keys[moved, :, : self.width]
            layer.values[holes, :, : self.width] = layer.values[moved, :, : self.width]
        self.pads = self.pads[order]
        self.rows = count
        return order

    def _grow(self) -> None:
        self.room += GROW
        for layer in self.layers.values():
            for name in ("keys", "values"):
                old = getattr(layer, name)[: self.rows]
                new = old.new_empty((self.rows, old.shape[1], self.room, old.shape[3]))
                new[:, :, : self.width] = old[:, :, : self.width]
                setattr(layer, name, new)

    def _run(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.call(tokens, positions, use_cache=False, decoder_state=self).logits[:, -1]

    def attend(self, index: int, query, key, value, scaling: float) -> torch.Tensor:
        """Attend with queries [rows, query heads, length, size] and store the new key-values of layer `index`."""
        layer = self.layers.setdefault(index, _LayerState())
        if self.mode == "prefix":
            layer.prefix_keys, layer.prefix_values = key[0].contiguous(), value[0].contiguous()
            return _plain_causal(query, key, value, scaling)
        if self.mode == "prompts":
            if layer.keys is None:
                # Zeros: a masked column must not hold NaN, which would outlive a weight of zero.
                layer.keys = key.new_zeros((self.rows, key.shape[1], self.room, key.shape[3]))
                layer.values = value.new_zeros((self.rows, value.shape[1], self.room, value.shape[3]))
            columns = slice(self.skipped, self.width)
            layer.keys[self.target, :, columns] = key.repeat_interleave(self.copies, 0)
            layer.values[self.target, :, columns] = value.repeat_interleave(self.copies, 0)
        else:
            layer.keys[: self.rows, :, self.width] = key[:, :, 0]
            layer.values[: self.rows, :, self.width] = value[:, :, 0]
            key = layer.keys[: self.rows, :, : self.width + 1]
            value = layer.values[: self.rows, :, : self.width + 1]
        return self._attend_both(layer, query, key, value, scaling)

    def _attend_both(self, layer: _LayerState, query, key, value, scaling: float) -> torch.Tensor:
        rows, query_heads, length, size = query.shape
        heads = key.shape[1]
        shared = query_heads // heads  # query heads that share a key head
        query = query.reshape(rows, heads, shared * length, size) * scaling
        scores = torch.matmul(query, key.transpose(2, 3)).view(rows, heads, shared, length, -1)
        scores = scores.masked_fill_(~self.allowed, torch.finfo(scores.dtype).min).flatten(2, 3)
        if layer.prefix_keys is None:
            return torch.matmul(_softmax(scores), value).view(rows, query_heads, length, -1)
        # One product for all rows: [heads, rows * shared * length, size] x [heads, size, prefix].
        stacked = query.transpose(0, 1).reshape(heads, -1, size)
        with_prefix = torch.matmul(stacked, layer.prefix_keys.transpose(1, 2))
        with_prefix = with_prefix.view(heads, rows, shared * length, self.prefix).transpose(0, 1)
        weights = _softmax(torch.cat((with_prefix, scores), -1))
        of_prefix = weights[..., : self.prefix].transpose(0, 1).reshape(heads, -1, self.prefix)
        out = torch.matmul(of_prefix, layer.prefix_values).view(heads, rows, shared * length, -1).transpose(0, 1)
        out = out + torch.matmul(weights[..., self.prefix :], value)
        return out.reshape(rows, query_heads, length, -1)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    return functional.softmax(scores, -1, dtype=torch.float32).to(scores.dtype)


def _plain_causal(query, key, value, scaling: float) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, decoder_state=None, **options):
    """Hand a layer's attention to the decoder; anything beyond plain causal attention is refused."""
    special = any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    if decoder_state is None or special or (options.get("sliding_window") or 2**31) < decoder_state.longest:
        raise NotImplementedError("not plain causal attention")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return decoder_state.attend(module.layer_idx, query, key, value, scaling).transpose(1, 2), None


class PlainDecoder:
    """Uses transformers' own cache and masks, with left padding: slower, for every other decoder-only model.

    Attributes:
        mixes_lengths: Whether prompts of different length can run together; recurrent layers may not skip padding.
    """

    mixes_lengths = True

    def __init__(self, model, attention: str):
        self.call = _Model(model)
        model.set_attn_implementation(attention)

    def start(self, prompts: list[list[int]], copies: list[int], room: int) -> torch.Tensor:
        """Read the prompts; return logits [sum of copies, vocabulary] of the first token of each copy."""
        tokens, pads = _pad_left(prompts, self.call.device)
        self.mask = (torch.arange(tokens.shape[1], device=self.call.device) >= pads[:, None]).long()
        self.cache = DynamicCache(config=self.call.model.config)
        logits = self._run(tokens, (self.mask.cumsum(1) - 1).clamp(min=0))
        rows = list(itertools.chain.from_iterable([row] * count for row, count in enumerate(copies)))
        index = torch.tensor(rows, device=self.call.device)
        self._select(index)
        return logits[index]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Add one token to each sequence; return the logits [rows, vocabulary] of the next."""
        positions = self.mask.sum(1, keepdim=True)
        self.mask = functional.pad(self.mask, (0, 1), value=1)
        return self._run(tokens[:, None], positions)

    def keep(self, rows: torch.Tensor) -> torch.Tensor:
        """Drop all sequences but `rows`; return their new order."""
        self._select(rows)
        return rows

    def _select(self, rows: torch.Tensor) -> None:
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]

    def _run(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        recurrent = self.call.cache_name == "cache_params"
        mask = None if recurrent and tokens.shape[1] == 1 else self.mask
        cache = {self.call.cache_name: self.cache}
        return self.call(tokens, positions, attention_mask=mask, use_cache=True, **cache).logits[:, -1]


def choose_decoder(model, longest: int) -> SharedPrefixDecoder | PlainDecoder:
    """Return the fast decoder when it gives the model's own logits on a probe, otherwise the general one.

    Args:
        model: A causal language model of transformers.
        longest: Most tokens that a sequence will have.

    Raises:
        ValueError: neither gives them.
    """
    config = model.config
    attention = config._attn_implementation
    top = min(config.vocab_size, 1000)
    shared = [(7 * at + 1) % top for at in range(12)]
    prompts = [shared + [(row + at) % top for at in range(3 + 4 * row)] for row in range(2)]
    wanted = [
        torch.cat(
            [model(input_ids=torch.tensor([prompt + more], device=model.device)).logits[:, -1] for prompt in prompts]
        )
        for more in ([], [PROBE])
    ]
    loose = 1e-4 if model.dtype == torch.float32 else 5e-2
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) or 2**31
    if model._supports_attention_backend and layers <= {"full_attention", "sliding_attention"}:
        if "sliding_attention" not in layers or window >= longest:
            try:
                fast = SharedPrefixDecoder(model, longest)
                if _alike(_probe(fast, prompts), wanted, loose):
                    return fast
            except (NotImplementedError, TypeError, AttributeError):
                pass  # an attention that the fast decoder cannot serve: the plain one below does, or says why not
        model.set_attn_implementation(attention)
    plain = PlainDecoder(model, attention)
    plain.mixes_lengths = _alike(_probe(plain, prompts), wanted, loose)
    if not plain.mixes_lengths and not _alike(_probe(plain, prompts[:1]), [logits[:1] for logits in wanted], loose):
        raise ValueError(
            f"{type(model).__name__}: decoding token by token does not give the model's own logits with this "
            "version of transformers; use the engine of kind vllm or openai"
        )
    return plain


def _probe(decoder: SharedPrefixDecoder | PlainDecoder, prompts: list[list[int]]) -> list[torch.Tensor]:
    """Return the logits [rows, vocabulary] of the next token and of the one after an arbitrary token."""
    first = decoder.start(prompts, [1] * len(prompts), 4)
    return [first, decoder.step(torch.full((len(prompts),), PROBE, device=first.device))]


def _alike(seen: list[torch.Tensor], wanted: list[torch.Tensor], tolerance: float) -> bool:
    """Tell whether logits differ by less than `tolerance` of their largest value."""
    return all(
        bool((a - b).float().abs().max() <= tolerance * max(float(b.float().abs().max()), 1.0))
        for a, b in zip(seen, wanted, strict=True)
    )
