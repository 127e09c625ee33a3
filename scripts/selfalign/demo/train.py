"""Pretraining of the demo's base model: packed documents, Muon for the matrices, resumable at any moment."""

import itertools
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from selfalign.demo.corpus import Corpus
from selfalign.demo.model import EOS, Network, Size
from selfalign.records.files import digest
from selfalign.records.progress import Progress

TOKENIZER_DOCUMENTS = 6_000
# A list of concepts is short beside its snippet and a task beside its solution: else they come last.
LOSS_WEIGHTS = {
    "response": 1.0,
    "instruction": 2.5,
    "concepts": 6.0,
    "snippet_instruction": 2.5,
    "problem": 1.0,
    "evolution": 1.5,
    "tests": 1.0,
    "code": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the model is trained.

    Attributes:
        tokens: Tokens to read in all.
        batch: Tokens in a step.
        lengths: Row lengths; steps take them in turn.
        matrix_rate: Peak learning rate of Muon, for the matrices.
        embedding_rate: Peak learning rate of AdamW, for embeddings and norms.
        constant: Share of the steps at the peak rates; then they fall linearly to zero.
    """

    tokens: int
    batch: int = 4096
    lengths: tuple[int, ...] = (512, 512, 512, 1024)
    matrix_rate: float = 0.02
    embedding_rate: float = 3e-3
    warmup: int = 60
    constant: float = 0.4
    seed: int = 1

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return max(1, self.tokens // self.batch)


class Stream:
    """Rows of packed documents. A row starts with a document; the last document of a row is cut at its end."""

    def __init__(self, corpus: Corpus, tokenizer, start: int = 0):
        self.corpus, self.tokenizer, self.next = corpus, tokenizer, start

    def _encode(self) -> tuple[list[int], list[float]]:
        document = self.corpus.document(self.next)
        self.next += 1
        encoding = self.tokenizer.encode(document.text)
        weights = [LOSS_WEIGHTS[document.kind]] * len(encoding.ids)
        if document.silent:
            spans = iter(document.silent)
            low, high = next(spans)
            for index, (start, _) in enumerate(encoding.offsets):
                while start >= high:
                    low, high = next(spans, (len(document.text), len(document.text) + 1))
                if low <= start < high:
                    weights[index] = 0.0
        return [*encoding.ids, EOS], [*weights, 1.0]

    def rows(self, count: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, targets and loss weights of `count` rows."""
        all_ids, all_weights = [], []
        for _ in range(count):
            ids: list[int] = []
            weights: list[float] = []
            while len(ids) <= length:
                more, silent = self._encode()
                ids += more
                weights += silent
            all_ids.append(ids[: length + 1])
            all_weights.append(weights[: length + 1])
        ids, weights = torch.tensor(all_ids), torch.tensor(all_weights)
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), weights[:, 1:].contiguous()


class _TiedLoss(torch.autograd.Function):
    """Cross-entropy of hidden states against a tied embedding, in chunks: the logits are never held whole."""

    @staticmethod
    def forward(ctx, hidden: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        low = torch.bfloat16 if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
        weight = embedding.to(low)
        hidden_gradient = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
        weight_gradient = torch.zeros_like(embedding, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), 512):
            part = hidden[start : start + 512].to(low)
            goal = targets[start : start + 512]
            logits = (part @ weight.T).float()
            logs = logits - logits.logsumexp(-1, keepdim=True)
            share = weights[start : start + 512, None]
            total -= (logs.gather(1, goal[:, None]) * share).sum()
            slope = logs.exp_()
            slope[torch.arange(len(goal), device=goal.device), goal] -= 1
            slope = (slope * share).to(low)
            hidden_gradient[start : start + 512] = slope @ weight
            weight_gradient += slope.T @ part
        ctx.save_for_backward(hidden_gradient, weight_gradient.to(embedding.dtype))
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * gradient, weight_gradient * gradient, None, None


def loss_of(network: Network, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean loss; targets of weight zero cost nothing."""
    device = network.embedding.weight.device
    rows = weights.view(-1).nonzero()[:, 0]
    shares = (weights.view(-1)[rows] / weights.sum()).to(device)
    rows = rows.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=low_precision(device)):
        hidden = network(ids.to(device)).view(-1, network.size.width)[rows]
        return _TiedLoss.apply(hidden, network.embedding.weight, targets.view(-1).to(device)[rows], shares)


def low_precision(device: torch.device) -> bool:
    """Return whether bfloat16 products are worth it: on GPUs, and on processors that have them in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return a matrix near the closest orthogonal one, by five Newton-Schulz steps (as Muon does)."""
    low = torch.bfloat16 if low_precision(matrix.device) else torch.float32
    x = matrix.to(low)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for matrices."""

    def __init__(self, matrices: list[Tensor], rate: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalized(matrix.grad.lerp(momentum, group["momentum"]))
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - group["lr"] * 0.02).add_(update, alpha=-group["lr"] * scale)


def rate_at(step: int, settings: Settings) -> float:
    """Return the factor on the learning rates at a step."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    left = (settings.steps - step) / max(1.0, settings.steps * (1 - settings.constant))
    return min(1.0, left)


class Training:
    """A training run that can be stopped and resumed; its state is one file in the output folder.

    A resumed run may be given another number of tokens: the learning rates follow the new plan from there.
    """

    def __init__(self, corpus: Corpus, tokenizer, size: Size, settings: Settings, state: Path):
        self.settings, self.state = settings, state
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(settings.seed)
        self.network = Network(size).to(self.device)
        matrices = [p for name, p in self.network.named_parameters() if p.ndim == 2 and "embedding" not in name]
        others = [p for name, p in self.network.named_parameters() if p.ndim != 2 or "embedding" in name]
        self.optimizers = [
            Muon(matrices, settings.matrix_rate),
            torch.optim.AdamW(others, lr=settings.embedding_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.stream = Stream(corpus, tokenizer)
        self.step = 0
        self.wall_s = self.cpu_s = 0.0
        self.curve: list[dict] = []
        if state.exists():
            self._load()

    def _key(self) -> str:
        vocabulary = sorted(self.stream.tokenizer.get_vocab().items())
        return digest(asdict(replace(self.settings, tokens=0)), asdict(self.network.size), vocabulary)

    def _load(self) -> None:
        saved = torch.load(self.state, map_location=self.device, weights_only=True)
        if saved["key"] != self._key():
            raise ValueError(f"{self.state}: made with other settings; delete it or choose another --output")
        self.network.load_state_dict(saved["network"])
        for optimizer, values in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.step, self.stream.next, self.curve = saved["step"], saved["document"], saved["curve"]
        self.wall_s, self.cpu_s = saved["wall_s"], saved["cpu_s"]

    def save(self) -> None:
        """Write the state, whole or not at all."""
        temporary = self.state.with_suffix(".tmp")
        torch.save(
            {
                "key": self._key(),
                "network": self.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "step": self.step,
                "document": self.stream.next,
                "curve": self.curve,
                "wall_s": self.wall_s,
                "cpu_s": self.cpu_s,
            },
            temporary,
        )
        os.replace(temporary, self.state)

    def run(self, save_every_s: float = 120.0) -> None:
        """Train to the end."""
        settings = self.settings
        progress = Progress("pretraining", settings.steps, done=self.step, unit="steps", interval=10.0)
        last = saved = time.monotonic()
        cpu = time.process_time()
        losses: list[float] = []
        every = max(1, settings.steps // 150)
        for step in itertools.count(self.step):
            if step >= settings.steps:
                break
            length = settings.lengths[step % len(settings.lengths)]
            loss = loss_of(self.network, *self.stream.rows(max(1, settings.batch // length), length))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.optimizers[1].param_groups[0]["params"], 1.0)
            for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * rate_at(step, settings)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.step = step + 1
            losses.append(loss.item())
            now = time.monotonic()
            self.wall_s += now - last
            self.cpu_s += time.process_time() - cpu
            last, cpu = now, time.process_time()
            if self.step % every == 0 or self.step == settings.steps:
                mean = sum(losses) / len(losses)
                self.curve.append({"step": self.step, "tokens": self.step * settings.batch, "loss": round(mean, 4)})
                losses = []
                print(f"step {self.step} loss {mean:.4f} wall {self.wall_s:.0f} s", flush=True)
            if now - saved > save_every_s:
                self.save()
                saved = now
            progress.add()
        self.save()


def hardware() -> dict:
    """Return what the training ran on, in words."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu}


def settings_record(settings: Settings) -> dict:
    """Return the settings as a plain dictionary."""
    return asdict(settings)
