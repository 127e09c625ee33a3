"""A trained checkpoint is served: vLLM (its CPU build) and transformers load it, and answer its chat template alike."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_files import make_pair
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.engines.models import fetch_model
from selfalign.engines.port import EngineSettings, Request, open_engine
from selfalign.prompts.chat import SYSTEM_PROMPT, chat_prompt
from selfalign.prompts.documents import chat_document
from selfalign.records.files import read_json, read_jsonl, write_jsonl

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parent.parent
TASKS = list(read_jsonl(ROOT / "resources/demo/benchmark.jsonl"))
LEARNT = 32  # of its 160 tasks; the others are asked


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return the model.json of the demo model, trained for some steps by the real command in its own environment."""
    folder = tmp_path_factory.mktemp("trained")
    fetch_model("resources/demo-base", folder / "model.json", ROOT)
    pairs = (
        replace(
            make_pair(number),
            instruction=task["instruction"],
            response=f"```python\n{task['canonical_solution']}\n```",
            tests=f"```python\n{task['tests']}\n```",
            category=task["category"],
            difficulty=task["difficulty"],
            concepts=task["operations"],
        )
        for number, task in enumerate(TASKS[:LEARNT])
    )
    write_jsonl(folder / "pairs.jsonl", (pair.dump() for pair in pairs))
    settings = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "max_tokens": 512, "dtype": "mixed"}
    command = [ROOT / ".venv/bin/python", ROOT / "scripts/train_model.py", "--base", folder / "model.json"]
    command += ["--pairs", folder / "pairs.jsonl", "--settings", json.dumps(settings), "--run-seed", "7"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [*command, "--output", folder / "out"], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stderr
    return folder / "out/model.json"


def test_vllm_and_transformers_answer_the_chat_template_alike(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained.parent)
    model = AutoModelForCausalLM.from_pretrained(trained.parent).eval()
    assert model.dtype == torch.bfloat16  # in which a mixed training saves
    model.float()
    asked = [task["instruction"] for task in TASKS[LEARNT:][::8]]
    wanted = []
    for instruction in asked:
        messages = [{"role": "user", "content": instruction}]
        tokens = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = model.generate(**tokens, max_new_tokens=200, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        wanted.append(tokenizer.decode(answer[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))
    engine = open_engine(trained, EngineSettings(kind="vllm", batch_size=16, max_model_len=1024, dtype="float32"))
    prompts = [chat_prompt(instruction, tokenizer=tokenizer) for instruction in asked]
    assert prompts[0] == chat_document(SYSTEM_PROMPT, asked[0])
    requests = [
        Request(id=str(number), prompt=prompt, shared=0, n=1, temperature=0.0, max_tokens=200, stop=(), seeds=(number,))
        for number, prompt in enumerate(prompts)
    ]
    completions = {one.id: one for group in engine.complete(requests) for one in group}
    found = [completions[str(number)] for number in range(len(asked))]
    same = sum(one.text.strip() == text.strip() for one, text in zip(found, wanted, strict=True))
    print(f"greedy answers alike: {same} of {len(asked)}; the first: {found[0].text!r}")
    assert same >= 0.9 * len(asked)  # rounding may turn a near tie
    assert sum(one.finish_reason == "stop" for one in found) >= 0.9 * len(found), "it has learnt to end"
    assert sum(one.text.lstrip().startswith("```python\n") for one in found) >= 0.9 * len(found)


def test_what_it_was_trained_from_is_recorded(trained):
    described = read_json(trained)
    assert described["chat_template"]
    assert described["trained_from"]["pairs"]["rows"] == LEARNT
