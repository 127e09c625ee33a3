"""How a model is fine-tuned. The defaults are the paper's (section 3, appendix C) where it gives them."""

from dataclasses import dataclass
from typing import Literal

from selfalign.prompts.chat import SYSTEM_PROMPT


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one training.

    Attributes:
        optimizer: The paper's is Adafactor, with a fixed learning rate and no scaling by the parameters.
        learning_rate: Peak. The paper: 1e-5 on a model's own data, 2e-5 on another model's.
        schedule: After the warm-up: linear decay to 0 (the paper's), cosine decay to 0, or constant.
        warmup_ratio: Fraction of the steps in which the rate rises from 0.
        batch_size: Pairs per step, over all processes.
        micro_batch_size: Pairs per forward pass of one process; changes memory and speed, not the loss.
        epochs: Passes over the pairs. The paper does not give its number; StarCoder2-Instruct's is 4.
        max_tokens: Longest prompt and response together; longer ones are cut.
        dropout: Probability, for every kind of dropout that the architecture has.
        max_grad_norm: Clipping of the gradient's norm; -1 is off.
        dtype: Of weights, gradients and optimizer updates.
        gradient_checkpointing: Trade time for memory.
        system_prompt: First line of the prompt; becomes the chat template's.
        threads: CPU threads of one process. Bit-identical results need the same number.
    """

    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    learning_rate: float = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.05
    batch_size: int = 64
    micro_batch_size: int = 16
    epochs: int = 4
    max_tokens: int = 1280
    dropout: float = 0.0
    max_grad_norm: float = -1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    system_prompt: str = SYSTEM_PROMPT
    threads: int = 1

    def __post_init__(self):
        for name in ("batch_size", "micro_batch_size", "epochs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
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
