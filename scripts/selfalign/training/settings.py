"""How a model is fine-tuned. The defaults are the paper's (section 3, appendix C) where it gives them."""

from dataclasses import dataclass
from typing import Literal

from selfalign.prompts.chat import SYSTEM_PROMPT


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one training.

    Attributes:
        objective: What is learnt: the responses of the pairs (sft), or to prefer the passing of two responses (dpo).
        beta: dpo: how strongly the model is held to its base.
        optimizer: The paper's is Adafactor, with a fixed learning rate and no scaling by the parameters.
        learning_rate: Peak. The paper: 1e-5 on a model's own data, 2e-5 on another model's.
        schedule: After the warm-up: linear decay to 0 (the paper's), cosine decay to 0, or constant.
        warmup_ratio: Fraction of the steps in which the rate rises from 0.
        batch_size: Pairs per step, over all processes.
        micro_batch_size: Pairs per forward pass of one process; changes memory and speed, not the loss.
        micro_batch_tokens: Tokens per forward pass, padding included, instead of a number of pairs: memory has a bound,
            and short pairs do not wait for long ones. None counts pairs.
        epochs: Passes over the pairs. The paper does not give its number; StarCoder2-Instruct's is 4.
        max_tokens: Longest prompt and response together; longer ones are cut.
        dropout: Probability, for every kind of dropout that the architecture has.
        max_grad_norm: Clipping of the gradient's norm; -1 is off.
        dtype: float32; bfloat16, of weights, gradients and all; or mixed, weights and optimizer in float32 and matrix
            products in bfloat16. A bfloat16 weight has 8 significant bits: a step below 1/512 of it is lost, which
            steps at a rate of 1e-5 mostly are. A mixed checkpoint is saved in bfloat16.
        loss: Where logits are computed: at all positions at once (full), at those of the responses (responses), or at
            those in parts (fused), so that they are never in memory together. auto is full for vocabularies below
            16,384, where nothing is gained, else fused, or responses for a model that changes its logits afterwards.
        sharding: none has the whole model in every process; full shards weights, gradients and optimizer (FSDP).
        gradient_checkpointing: Trade time for memory.
        system_prompt: First line of the prompt; becomes the chat template's.
        threads: CPU threads of one process. Bit-identical results need the same number.
    """

    objective: Literal["sft", "dpo"] = "sft"
    beta: float = 0.1
    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    learning_rate: float = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.05
    batch_size: int = 64
    micro_batch_size: int = 16
    micro_batch_tokens: int | None = None
    epochs: int = 4
    max_tokens: int = 1280
    dropout: float = 0.0
    max_grad_norm: float = -1.0
    dtype: Literal["float32", "bfloat16", "mixed"] = "float32"
    loss: Literal["auto", "full", "responses", "fused"] = "auto"
    sharding: Literal["none", "full"] = "none"
    gradient_checkpointing: bool = False
    system_prompt: str = SYSTEM_PROMPT
    threads: int = 1

    def __post_init__(self):
        for name in ("batch_size", "micro_batch_size", "epochs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if self.micro_batch_tokens is not None and self.micro_batch_tokens < 1:
            raise ValueError(f"micro_batch_tokens is {self.micro_batch_tokens}; it has to be 1 or more, or null")
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it has to be above 0")
        if self.objective == "dpo":
            for name in ("micro_batch_tokens", "loss", "sharding"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"{name} is {getattr(self, name)!r}; it has no effect on the objective dpo")
            if self.dtype == "bfloat16":
                raise ValueError(
                    "dtype is 'bfloat16', in which the small steps of the objective dpo are lost; set mixed"
                )
        if self.max_tokens < 16:
            raise ValueError(f"max_tokens is {self.max_tokens}; it has to be 16 or more")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it has to be above 0")
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio is {self.warmup_ratio}; it is a fraction, from 0 to 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it is a probability below 1")
        if self.max_grad_norm <= 0 and self.max_grad_norm != -1:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it has to be above 0, or -1 for no clipping")
        if not self.system_prompt.strip():
            raise ValueError("system_prompt is empty; leave it out for the default")
