"""What a benchmark is to the stages: how its files become tasks, what is asked, and what becomes of an answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from selfalign.benchmarks.downloads import Source
from selfalign.benchmarks.files import read_json_lines
from selfalign.benchmarks.outputs import Known, output_tests
from selfalign.benchmarks.programs import NO_CODE, Answer, find_code, join_code, without_main
from selfalign.benchmarks.tasks import Check, Task


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One question to a model: in words, as text to go on with, and the code at that text's end."""

    instruction: str
    prompt: str | None
    prefix: str = ""


class Benchmark:
    """A kind of benchmark. Most define `source` and `read_tasks` only.

    Attributes:
        source: Where `prepare_benchmark` gets the file when the config names none; None where it is to be named.
        options: What the config may set under `options`, with the defaults.
        packages: Import names that solutions and tests may use beyond the standard library.
        sandbox: The least that its programs need of the sandbox's limits.
        environment: Of envs/, whose packages its programs use.
        as_main: Whether a solution runs what stands under `if __name__ == "__main__"`; not where the authors give its
            text to `exec`.
        measures: Passing answers are run once more, to measure something: `measure_program`, `read_measurement` and
            `extra_scores`.
        measure_s: CPU seconds for one of these programs.
    """

    source: Source | None = None
    options: ClassVar[Mapping[str, object]] = {}
    packages: tuple[str, ...] = ()
    sandbox: ClassVar[Mapping[str, float]] = {}
    environment: str = "core"
    as_main: bool = True
    measures: bool = False
    measure_s: float = 60.0

    def published(self, **options: object) -> Source | None:
        """Return where the file is published that the options ask for."""
        return self.source

    def rows(self, path: Path) -> Iterator[tuple[str, dict]]:
        """Yield place and fields of every problem of the benchmark's own file, JSON lines unless overridden.

        Raises:
            ValueError: missing or corrupt.
        """
        for number, fields in read_json_lines(path):
            yield f"row {number}", fields

    def read_tasks(self, fields: dict, benchmark: str, **options: object) -> list[Task]:
        """Return the tasks of one problem; none when the options leave it out.

        Args:
            benchmark: The name of the config's entry.
            options: All of `self.options`, as the config sets them.

        Raises:
            KeyError, TypeError, AttributeError: it is not of this kind.
            ValueError: it is, and wrong.
        """
        raise NotImplementedError

    def wording(self, task: Task, texts: Sequence[str], *, completes_prompt: bool) -> Wording | None:
        """Return the next question for a task, None when all were asked.

        Args:
            texts: What the model has answered so far.
            completes_prompt: As for `build_code`.
        """
        return None if texts else Wording(instruction=task.instruction, prompt=task.prompt, prefix=task.prefix)

    def build_code(self, task: Task, texts: Sequence[str], *, completes_prompt: bool) -> tuple[str, str | None]:
        """Return the solution in a model's texts and None, or "" and the drop reason.

        Args:
            completes_prompt: The texts go on where the prompt ends; otherwise they are answers with code in them.
        """
        (text,) = texts
        if completes_prompt:
            return (f"{task.prefix}{text}", None) if text.strip() else ("", NO_CODE)
        code = find_code(text, task.language)
        if task.language != "python":
            return (code, None) if code.strip() else ("", NO_CODE)
        return (join_code(task, code), None) if code.strip() else ("", NO_CODE)

    def build_program(self, task: Task, check: Check, code: str, known: Known) -> tuple[str, str]:
        """Return a solution as code and tests for the sandbox."""
        if not self.as_main:
            code = without_main(code)
        if check.driver == "script":
            return "", output_tests(check, known, target=repr(code))
        if check.driver == "call":
            return code, output_tests(check, known, target=self.target(task))
        return code, f"{check.tests.strip()}\n"

    def target(self, task: Task) -> str:
        """Return what is called on inputs, as an expression."""
        return task.entry_point

    def is_right(self, task: Task, arguments: list, found: object, expected: object, before: Sequence) -> bool:
        """Return whether an output is right; called only for outputs that are not the same as expected.

        Args:
            before: The right outputs of the inputs before, encoded.
        """
        return found == expected

    def measure_program(self, task: Task, code: str) -> tuple[str, str]:
        """Return a passing solution as code and tests that print what is to be measured.

        Raises:
            ValueError: this one cannot be measured.
        """
        raise NotImplementedError

    def measure_data(self, task: Task) -> str:
        """Return the text that this program finds under the name `_data`."""
        return ""

    def baselines(self, task: Task) -> Sequence[str]:
        """Return solutions that are measured beside the answers to a task: the n-th under the id `{task}#n`."""
        return ()

    def read_measurement(self, task: Task, code: str, printed: str) -> dict:
        """Return what that program printed as values.

        Raises:
            ValueError: it is not in the form that is wanted.
        """
        raise NotImplementedError

    def extra_scores(
        self, tasks: Sequence[Task], answers: Mapping[str, Sequence[Answer]], measurements: Mapping[str, dict]
    ) -> dict[str, dict]:
        """Return scores beside the metrics, by name: dictionaries with at least `value`.

        Args:
            tasks: All, or those of a group.
            answers: Of each task, all of them.
            measurements: By answer; of those that passed and could be measured.
        """
        return {}
