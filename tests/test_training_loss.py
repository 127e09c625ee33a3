"""The loss of training: its kinds agree with one another, memory and numbers that run out are told."""

import math

import pytest
import torch
from tiny_model import make_model
from training_files import make_pair
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.prompts.chat import SYSTEM_PROMPT
from selfalign.training import loss as loss_module
from selfalign.training.examples import IGNORED, encode_pairs
from selfalign.training.loop import check_loss, memory_errors
from selfalign.training.loss import ResponseLoss, choose_loss, pad
from selfalign.training.settings import TrainSettings
from selfalign.training.usage import model_flops_utilization, peak_flops


def loss_and_gradients(folder, kind: str, *, labelled: bool = True) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of some pairs and its gradients."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples, _ = encode_pairs(map(make_pair, range(5)), tokenizer, system=SYSTEM_PROMPT, max_tokens=256)
    tokens, labels = pad(examples)
    loss = ResponseLoss(model, kind)(tokens, labels if labelled else torch.full_like(labels, IGNORED))
    loss.backward()
    return loss.item(), {name: value.grad for name, value in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}, {"kind": "gpt2"}, {"kind": "phi"}], ids=str)
@pytest.mark.parametrize("kind", ["responses", "fused"])
def test_every_kind_of_loss_is_the_same(tmp_path, options, kind):
    make_model(tmp_path, **{"initializer_range": 0.05, **options})
    wanted, gradients = loss_and_gradients(tmp_path, "full")
    found, others = loss_and_gradients(tmp_path, kind)
    assert wanted > 100
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            others[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed"])
def test_the_loss_of_parts_is_summed_in_float32(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(loss_module, "POSITIONS", 4)
    make_model(tmp_path, initializer_range=0.05)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    model = model.to(torch.bfloat16) if dtype == "bfloat16" else model
    examples, _ = encode_pairs(
        map(make_pair, range(20)), AutoTokenizer.from_pretrained(tmp_path), system=SYSTEM_PROMPT, max_tokens=256
    )
    full, fused = (ResponseLoss(model, kind, autocast=dtype == "mixed")(*pad(examples)) for kind in ("full", "fused"))
    assert fused.dtype == torch.float32
    assert fused.item() == pytest.approx(full.item(), rel=3e-4)


@pytest.mark.parametrize("kind", ["full", "responses", "fused"])
def test_a_part_without_a_label_adds_nothing(tmp_path, kind):
    make_model(tmp_path)
    loss, gradients = loss_and_gradients(tmp_path, kind, labelled=False)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


def test_logits_of_the_responses_only_are_computed(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_model(tmp_path))
    seen = []
    model.get_output_embeddings().register_forward_hook(lambda _, __, logits: seen.append(logits.shape[:-1].numel()))
    examples, _ = encode_pairs(
        map(make_pair, range(5)), AutoTokenizer.from_pretrained(tmp_path), system=SYSTEM_PROMPT, max_tokens=256
    )
    tokens, labels = pad(examples)
    ResponseLoss(model, "full")(tokens, labels)
    ResponseLoss(model, "responses")(tokens, labels)
    ResponseLoss(model, "fused")(tokens, labels)
    learnt = sum(len(example.tokens) - example.masked for example in examples)
    assert seen == [tokens.numel(), learnt + 1]  # and none at once in the fused loss


@pytest.mark.parametrize(
    ("options", "wanted", "large", "found"),
    [
        ({}, "auto", False, "full"),
        ({}, "auto", True, "fused"),
        ({}, "responses", False, "responses"),
        ({}, "fused", False, "fused"),
        ({"kind": "cohere", "logit_scale": 0.25}, "auto", True, "responses"),
        ({"kind": "cohere", "logit_scale": 0.25}, "fused", True, None),
    ],
)
def test_the_loss_suits_the_model(tmp_path, monkeypatch, options, wanted, large, found):
    model = AutoModelForCausalLM.from_pretrained(make_model(tmp_path, **options))
    monkeypatch.setattr(loss_module, "LARGE_VOCABULARY", 100 if large else 1000)
    if found:
        assert choose_loss(wanted, model) == found
        return
    with pytest.raises(ValueError, match="CohereForCausalLM scales or caps its logits"):
        choose_loss(wanted, model)


def test_memory_that_runs_out_says_what_to_change():
    with pytest.raises(ValueError, match="out of memory in step 3") as error, memory_errors(TrainSettings(), "step 3"):
        torch.empty(1 << 50)
    for advice in ("micro_batch_size (now 16)", "gradient_checkpointing: true", "sharding: full"):
        assert advice in str(error.value)
    settings = TrainSettings(micro_batch_tokens=4096, gradient_checkpointing=True, sharding="full")
    with pytest.raises(ValueError, match="micro_batch_tokens") as error, memory_errors(settings, "step 3"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert "gradient_checkpointing" not in str(error.value)
    assert "sharding" not in str(error.value)
    settings = TrainSettings(objective="dpo")
    with pytest.raises(ValueError, match="lower micro_batch_size") as error, memory_errors(settings, "step 3"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert "sharding" not in str(error.value)
    with pytest.raises(RuntimeError, match="size mismatch"), memory_errors(settings, "step 3"):
        raise RuntimeError("size mismatch")


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_says_what_to_change(loss):
    check_loss(0.0, 6, 1e-5)
    with pytest.raises(ValueError, match=r"the loss of step 7 is not a number; lower the learning rate \(1e-05\)"):
        check_loss(loss, 7, 1e-5)


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "mixed", 756.0),
        ("NVIDIA A100-SXM4-80GB", "mixed", 312.0),
        ("NVIDIA A100-SXM4-80GB", "float32", 19.5),
        ("NVIDIA A10G", "bfloat16", 70.0),
        ("NVIDIA L40S", "bfloat16", 362.0),
        ("NVIDIA L4", "bfloat16", 121.0),
        ("NVIDIA RTX A4000", "mixed", None),
        ("NVIDIA GH200 480GB", "mixed", None),
        ("cpu", "float32", None),
    ],
)
def test_peaks_of_gpus(name, dtype, teraflops):
    assert peak_flops(name, dtype) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_model_flops_utilization():
    # 7 billion parameters at 3,000 tokens per second: 6 x 7e9 x 3000 = 1.26e14 of 3.12e14
    assert model_flops_utilization(7_000_000_000, 3000, 312e12) == pytest.approx(0.4038, abs=1e-4)
    assert model_flops_utilization(7_000_000_000, 3000, None) is None
