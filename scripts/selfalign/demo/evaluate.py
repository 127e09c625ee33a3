"""What the demo's base model can do: its documents sampled with few-shot prompts, read back and executed."""

import ast
import random
import re
import signal
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from selfalign.demo.concepts import CONCEPTS
from selfalign.demo.corpus import Snippet, load_snippets
from selfalign.demo.model import Network, load
from selfalign.demo.operations import BY_OPERATION, Operation
from selfalign.demo.tasks import Task, bug_variants, choose_inputs, result_with
from selfalign.prompts.documents import (
    CATEGORIES,
    DIFFICULTIES,
    PromptSet,
    code_blocks,
    concepts_example,
    instruction_example,
    parse_concepts,
    parse_instruction,
    parse_response,
    render_document,
    response_example,
    shot_example,
    stop_strings,
)
from selfalign.records.progress import Progress

SHOTS = {"concepts": 2, "instruction": 2, "response": 1}
MOST_TOKENS = {"concepts": 48, "instruction": 110, "response": 360}
TEMPERATURE = 0.7
BATCH = 48
SECONDS = 1.0
BUILTINS = """
    abs all any bool dict enumerate filter int isinstance len list map max min next print range reversed set sorted
    str sum tuple zip ValueError IndexError TypeError __build_class__
"""


class Sampler:
    """Draws completions of few-shot prompts."""

    def __init__(self, network: Network, tokenizer, prompts: PromptSet, seed: int):
        self.network, self.tokenizer, self.prompts = network.eval(), tokenizer, prompts
        self.rng = random.Random(seed)
        self.generator = torch.Generator(device=network.embedding.weight.device).manual_seed(seed)
        self.tokens = 0
        self.cpu_s = 0.0

    def prompt(self, kind: str, example: str) -> str:
        """Return the few-shot prompt that ends in the open example."""
        shots = self.rng.sample(self.prompts.shots, SHOTS[kind])
        return render_document(self.prompts.headers[kind], [*(shot_example(kind, shot) for shot in shots), example])

    def complete(self, kind: str, examples: Sequence[str], temperature: float = TEMPERATURE) -> list[str]:
        """Return one completion for each open example, cut at the first stop string."""
        prompts = [self.tokenizer.encode(self.prompt(kind, example)).ids for example in examples]
        most = MOST_TOKENS[kind]
        prompts = [prompt[-(self.network.size.context - most) :] for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts = [""] * len(prompts)
        ends = [self.tokenizer.encode(text).ids for text in ("## Example 2\n", "## Example 3\n", "</tests>\n")]
        progress = Progress(f"evaluating {kind}", len(prompts), interval=15)
        start = time.process_time()
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            outputs = self.network.generate(
                [prompts[i] for i in rows], most=most, temperature=temperature, stop=ends, generator=self.generator
            )
            for row, output in zip(rows, outputs, strict=True):
                self.tokens += len(output)
                text = self.tokenizer.decode(output)
                cuts = [text.find(stop) for stop in stop_strings(kind)]
                texts[row] = text[: min((cut for cut in cuts if cut >= 0), default=len(text))]
            progress.add(len(rows))
        self.cpu_s += time.process_time() - start
        return texts


def read_operations(words: str) -> tuple[Operation, ...] | None:
    """Return the operations that a name spells ("keep_even_then_first_2"), or None."""
    parts = [part for part in words.split("_") if part]
    found: list[Operation] = []
    at = 0
    while at < len(parts):
        for size in (4, 3, 2, 1):
            name = "_".join(parts[at : at + size])
            if name in BY_OPERATION and at + size <= len(parts):
                found.append(BY_OPERATION[name])
                at += size
                break
        else:
            if parts[at] != "then":
                return None
            at += 1
    return tuple(found) or None


def read_task(instruction: str) -> Task | None:
    """Return the task that an instruction names, or None if it names none of the family."""
    names = re.findall(r"`(\w+)(?:\(\w*\))?`", instruction)
    method = ""
    if re.search(r"\bclass\b", instruction):
        category = "class"
        names, rest = names[:1], [name for name in names[1:] if name != "xs"]
        if not names or len(rest) != 1:
            return None
        method = rest[0]
        words = re.sub(r"([A-Z]|\d+)", r"_\1", names[0]).lower()
    elif "program" in instruction:
        category = "program"
        words = "_".join(name for name in names if name not in ("xs", "main"))
    else:
        category = "function"
        words = "_".join(name for name in names if name != "xs")
    operations = read_operations(words)
    if operations is None or len(operations) > 3 or any(operation.kind.final for operation in operations[:-1]):
        return None
    joiner = "_then_" if "_then_" in words or "_then" in words else "_"
    return Task(category=category, operations=operations, joiner=joiner, method=method, phrasing=0)


class _TooLong(Exception):
    pass


def run_code(code: str) -> str | None:
    """Run code of the family and return None, or what went wrong.

    No sandbox: it refuses imports, private names and most builtins, and stops after a second. That is enough for what
    this model writes; the pipeline itself runs everything in its sandbox.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code)
            program = compile(tree, "program", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "syntax"
    for node in ast.walk(tree):
        names = [getattr(node, field, "") for field in ("id", "attr")]
        private = any(isinstance(name, str) and name.startswith("_") for name in names)
        if private or isinstance(node, ast.Import | ast.ImportFrom):
            return "refused"
    import builtins

    allowed = {name: getattr(builtins, name) for name in BUILTINS.split()}

    def stop(signum: int, frame: object) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        exec(program, {"__builtins__": allowed, "__name__": "program"})
    except AssertionError:
        return "assertion"
    except _TooLong:
        return "timeout"
    except Exception as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return None


def tests_are_right(task: Task, tests: str) -> bool | None:
    """Return whether every assertion of a test block states what the task means; None if one cannot be read."""
    right = True
    count = 0
    for line in tests.splitlines():
        if not line.startswith("assert"):
            continue
        match = re.fullmatch(r"assert (\w+)\((\[[\d, ]*\])\)(?:\.(\w+)\(\))? == (.+)", line.strip())
        method = task.method if task.category == "class" else ""
        if not match or match[1] != task.entry or (match[3] or "") != method:
            return None
        try:
            expected = ast.literal_eval(match[4])
            got = task.trace(ast.literal_eval(match[2]))[-1]
        except (ValueError, SyntaxError):
            return None
        right &= got == expected
        count += 1
    return right if count else None


def code_is_right(task: Task, code: str, rng: random.Random) -> bool:
    """Return whether code solves a task, on inputs that show typical bugs."""
    inputs = choose_inputs(rng, task, 5, candidates=12)
    tests = "\n".join(f"assert {task.call(xs)} == {task.trace(xs)[-1]}" for xs in inputs)
    return run_code(f"{code}\n{tests}") is None


def bug_is_shown(task: Task, inputs: Sequence[list]) -> bool:
    """Return whether every typical bug of a task changes the result of some input."""
    return all(
        any(result_with(task, at, form, xs) != task.trace(xs)[-1] for xs in inputs) for at, form in bug_variants(task)
    )


def _concepts(sampler: Sampler, snippets: list[Snippet], count: int) -> tuple[dict, list[tuple[str, ...]]]:
    chosen = sampler.rng.sample(snippets, min(count, len(snippets)))
    texts = sampler.complete("concepts", [concepts_example(snippet.code) for snippet in chosen])
    lists, formed, precision, recall = [], 0, [], []
    for snippet, text in zip(chosen, texts, strict=True):
        concepts, reason = parse_concepts(text)
        good = reason is None and 1 <= len(concepts) <= 6 and all(concept in CONCEPTS for concept in concepts)
        formed += good
        if reason is None:
            lists.append(tuple(concepts))
            precision.append(len(set(concepts) & set(snippet.concepts)) / len(set(concepts)))
            recall.append(len(set(concepts) & set(snippet.concepts[:4])) / len(snippet.concepts[:4]))
    others = zip(lists, chosen[1:], strict=False)
    chance = [len(set(concepts) & set(other.concepts)) / max(1, len(set(concepts))) for concepts, other in others]
    numbers = {
        "snippets": len(chosen),
        "well_formed": round(formed / len(chosen), 3),
        "precision": round(sum(precision) / max(1, len(precision)), 3),
        "precision_by_chance": round(sum(chance) / max(1, len(chance)), 3),  # against another snippet
        "recall_of_first_four": round(sum(recall) / max(1, len(recall)), 3),
        "distinct_lists": len(set(lists)),
    }
    return numbers, lists


def _instructions(sampler: Sampler, lists: list[tuple[str, ...]], count: int) -> tuple[dict, list[str]]:
    properties = []
    for number in range(count):
        category = sampler.rng.choices(CATEGORIES, (2, 1, 1))[0]
        properties.append((category, sampler.rng.choice(DIFFICULTIES), lists[number % len(lists)]))
    texts = sampler.complete("instruction", [instruction_example(*item) for item in properties])
    kept, names, formed, category_obeyed, difficulty_obeyed, operations = [], [], 0, 0, 0, Counter()
    for (category, difficulty, _), text in zip(properties, texts, strict=True):
        instruction, reason = parse_instruction(text)
        task = read_task(instruction)
        formed += task is not None
        if task:
            category_obeyed += task.category == category
            difficulty_obeyed += task.difficulty == difficulty
            operations.update(operation.kind.name for operation in task.operations)
            names.append((task.category, tuple(operation.name for operation in task.operations)))
        if reason is None:
            kept.append(instruction)
    numbers = {
        "asked": count,
        "well_formed": round(formed / count, 3),
        "category_obeyed": round(category_obeyed / count, 3),
        "difficulty_obeyed": round(difficulty_obeyed / count, 3),
        "distinct_names": round(len(set(names)) / count, 3),
        "distinct_texts": round(len(set(kept)) / count, 3),
        "operations": dict(operations.most_common()),
    }
    return numbers, kept


def _responses(sampler: Sampler, instructions: list[str]) -> dict:
    texts = sampler.complete("response", [response_example(instruction) for instruction in instructions])
    outcomes: Counter[str] = Counter()
    known = tests_right = code_right = passed_wrong = 0
    for instruction, text in zip(instructions, texts, strict=True):
        response, tests, reason = parse_response(text)
        if reason:
            outcomes["malformed"] += 1
            continue
        code, checks = code_blocks(response), code_blocks(tests)
        problem = run_code(f"{code}\n{checks}") if "assert" in checks else "no tests"
        outcomes[problem or "passed"] += 1
        task = read_task(instruction)
        if task is None:
            continue
        known += 1
        tests_right += bool(tests_are_right(task, checks))
        right = code_is_right(task, code, sampler.rng)
        code_right += right
        passed_wrong += problem is None and not right
    count = len(instructions)
    return {
        "asked": count,
        "outcomes": {name: round(number / count, 3) for name, number in outcomes.most_common()},
        "tests_right": round(tests_right / max(1, known), 3),
        "code_right": round(code_right / max(1, known), 3),
        "passed_but_wrong": round(passed_wrong / max(1, outcomes["passed"]), 3),
    }


def _benchmark(sampler: Sampler, rows: list[dict], temperature: float) -> dict:
    examples = [response_example(row["instruction"]) for row in rows]
    texts = sampler.complete("response", examples, temperature)
    passed: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for row, text in zip(rows, texts, strict=True):
        code = code_blocks(text.split("</response>")[0])
        good = run_code(f"{code}\n{row['tests']}") is None
        for name in ("all", row["category"], row["difficulty"]):
            asked[name] += 1
            passed[name] += good
    return {name: round(passed[name] / asked[name], 3) for name in asked}


def evaluate(
    folder: Path, prompts: PromptSet, seed: int, benchmark: list[dict] | None = None, count: int = 300
) -> dict:
    """Return what the model in a folder can do, as numbers."""
    network, tokenizer = load(folder)
    _, kept = load_snippets()
    sampler = Sampler(network, tokenizer, prompts, seed)
    concepts, lists = _concepts(sampler, kept, count)
    instructions, texts = _instructions(sampler, lists, count)
    responses = _responses(sampler, texts)
    result = {
        "temperature": TEMPERATURE,
        "shots": SHOTS,
        "concepts": concepts,
        "instructions": instructions,
        "responses": responses,
    }
    if benchmark:
        result["benchmark_greedy"] = _benchmark(sampler, benchmark, 0.0)
        result["benchmark_sampled"] = _benchmark(sampler, benchmark, TEMPERATURE)
    result["tokens_per_cpu_s"] = round(sampler.tokens / max(sampler.cpu_s, 1e-9))
    return result
