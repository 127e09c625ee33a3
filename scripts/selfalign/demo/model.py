"""The demo's base model: its tokenizer, its network in plain PyTorch, a batched sampler, and the export."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPECIAL = ("<pad>", "<s>", "</s>")
PAD, BOS, EOS = range(3)
WEIGHTS = "model.safetensors"
# Names of a layer's parts here and in a Llama checkpoint.
PARTS = {
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
# Frequent structure (tags, fences, headings, line ends with their indentation, list items, parts of identifiers) is
# one unit each, which ordinary merges then turn into single tokens. No unit crosses the end of a prompt.
UNITS = "|".join(
    (
        r"(?:</?[a-z]+>\n)+",
        r"```(?:python)?\n?",
        r"## Example \d+\n",
        r"### [A-Z][a-z]+\n",
        r"\n+ *",
        r", \d{1,2}(?!\d)",
        r"_?\d{1,2}",
        r" ?_?[A-Z]?[a-z]+",
        r" ?_?[A-Z]+",
        r" ?_",
        r" ?[^\sA-Za-z0-9_]+",
        r" \d{1,2}",
        r" +",
        r"\s",
    )
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of the network."""

    vocabulary: int = 1536
    width: int = 256
    layers: int = 4
    heads: int = 4
    hidden: int = 704
    context: int = 1024
    rope_theta: float = 10_000.0


def train_tokenizer(texts: Sequence[str], vocabulary: int):
    """Return a byte-level BPE tokenizer trained on texts; numbers up to two digits and list items are single tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(UNITS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = "".join(f"{n}, {n}, {n}( {n} _{n}(" for n in range(31))
    tokenizer.train_from_iterator([*texts, *[numbers] * max(4, len(texts) // 50)], trainer)
    return tokenizer


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to (batch, heads, tokens, head size)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, future: Tensor | None) -> Tensor:
    """Return causal attention; on the CPU by plain products, which train twice as fast as the fused kernel there."""
    if future is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    batch, heads, length, head = q.shape
    q, k, v = (part.reshape(batch * heads, length, head) for part in (q, k, v))
    scores = torch.baddbmm(future.to(q.dtype)[None], q, k.transpose(1, 2), alpha=head**-0.5)
    return torch.bmm(scores.softmax(-1, dtype=q.dtype), v).view(batch, heads, length, head)


class Block(nn.Module):
    """One Llama layer."""

    def __init__(self, size: Size):
        super().__init__()
        self.heads = size.heads
        self.norm1 = nn.RMSNorm(size.width, eps=1e-5)
        self.q = nn.Linear(size.width, size.width, bias=False)
        self.k = nn.Linear(size.width, size.width, bias=False)
        self.v = nn.Linear(size.width, size.width, bias=False)
        self.o = nn.Linear(size.width, size.width, bias=False)
        self.norm2 = nn.RMSNorm(size.width, eps=1e-5)
        self.gate = nn.Linear(size.width, size.hidden, bias=False)
        self.up = nn.Linear(size.width, size.hidden, bias=False)
        self.down = nn.Linear(size.hidden, size.width, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values of (batch, tokens, width)."""
        batch, tokens, width = x.shape
        h = self.norm1(x)
        q, k, v = (
            layer(h).view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output and the feed-forward part to the residual stream."""
        x = x + self.o(attended.transpose(1, 2).reshape(x.shape))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Network(nn.Module):
    """A small Llama: rotary positions, RMSNorm, SwiGLU, tied embeddings."""

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, eps=1e-5)
        head = size.width // size.heads
        angles = torch.outer(
            torch.arange(size.context).float(), size.rope_theta ** (-torch.arange(0, head, 2).float() / head)
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.02 if "embedding" in name else weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=scale * (0.3 if name.endswith(("o.weight", "down.weight")) else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the final hidden states (batch, tokens, width); the embedding's transpose makes them logits."""
        x = self.embedding(tokens)
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        if x.is_cpu and torch.is_autocast_enabled("cpu"):
            cos, sin = cos.bfloat16(), sin.bfloat16()
        future = torch.full((length, length), float("-inf"), device=x.device).triu(1) if x.is_cpu else None
        for block in self.blocks:
            q, k, v = block.project(x, cos, sin)
            x = block.finish(x, _attend(q, k, v, future))
        return self.norm(x)

    @torch.no_grad()
    def generate(
        self,
        prompts: list[list[int]],
        *,
        most: int,
        temperature: float,
        stop: list[list[int]],
        generator: torch.Generator,
    ) -> list[list[int]]:
        """Continue each prompt until a stop sequence, the end of the text or `most` tokens.

        Prompts are padded on the left to a common length; a temperature of 0 takes the likeliest token.
        """
        device = self.embedding.weight.device
        longest = max(len(prompt) for prompt in prompts)
        start = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
        tokens = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts], device=device)
        room = longest + most
        head = self.size.width // self.size.heads
        shape = (len(prompts), self.size.heads, room, head)
        caches = [(torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in self.blocks]
        done: list[list[int]] = [[] for _ in prompts]
        active = list(range(len(prompts)))
        at = 0
        while active and at < room and longest + len(max((done[i] for i in active), key=len)) <= room:
            x = self.embedding(tokens)
            width = tokens.shape[1]
            end = at + width
            positions = (torch.arange(at, end, device=device)[None] - start[:, None]).clamp(0)
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
            columns = torch.arange(end, device=device)
            mask = (columns[None, None] <= torch.arange(at, end, device=device)[None, :, None]) & (
                columns[None, None] >= start[:, None, None]
            )
            mask = mask | (columns[None, None] == torch.arange(at, end, device=device)[None, :, None])
            for block, (keys, values) in zip(self.blocks, caches, strict=True):
                q, k, v = block.project(x, cos, sin)
                keys[:, :, at:end], values[:, :, at:end] = k, v
                attended = F.scaled_dot_product_attention(
                    q, keys[:, :, :end], values[:, :, :end], attn_mask=mask[:, None]
                )
                x = block.finish(x, attended)
            logits = F.linear(self.norm(x[:, -1]), self.embedding.weight).float()
            if temperature:
                probabilities = (logits / temperature).softmax(-1)
                chosen = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            else:
                chosen = logits.argmax(-1)
            keep = []
            for row, (index, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
                if token == EOS:
                    continue
                done[index].append(token)
                ended = any(done[index][-len(sequence) :] == sequence for sequence in stop)
                if not ended and len(done[index]) < most:
                    keep.append(row)
            at = end
            if len(keep) < len(active):
                kept = torch.tensor(keep, device=device, dtype=torch.long)
                caches = [(keys[kept], values[kept]) for keys, values in caches]
                start, chosen = start[kept], chosen[kept]
                active = [active[row] for row in keep]
            tokens = chosen[:, None]
        return done


def _llama(name: str) -> str:
    """Return a Llama checkpoint's name of one of our weights."""
    if name.startswith("blocks."):
        _, number, part, _ = name.split(".")
        return f"model.layers.{number}.{PARTS[part]}.weight"
    return {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}[name]


def _plain(name: str) -> str:
    """Return our name of a Llama checkpoint's weight."""
    if name.startswith("model.layers."):
        number, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
        return f"blocks.{number}.{dict(zip(PARTS.values(), PARTS, strict=True))[part]}.weight"
    return {"model.embed_tokens.weight": "embedding.weight", "model.norm.weight": "norm.weight"}[name]


def export(network: Network, tokenizer, folder: str | Path) -> None:
    """Write the network and its tokenizer as a Hugging Face folder (LlamaForCausalLM)."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = network.size
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": size.rope_theta},
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    state = {_llama(name): weight.detach().float().cpu().clone() for name, weight in network.state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= {"lm_head.weight"}, missing
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=True, temperature=0.7
    )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        model_max_length=size.context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def describe(size: Size) -> dict:
    """Return the size as a plain dictionary."""
    return asdict(size)


def load_tokenizer(folder: str | Path):
    """Return the tokenizer in a folder."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def load(folder: str | Path):
    """Return the network and the tokenizer of an exported folder."""
    from safetensors.torch import load_file

    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = Size(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        context=config["max_position_embeddings"],
        rope_theta=config["rope_parameters"]["rope_theta"],
    )
    network = Network(size)
    network.load_state_dict({_plain(name): weight.float() for name, weight in load_file(folder / WEIGHTS).items()})
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return network, load_tokenizer(folder)
