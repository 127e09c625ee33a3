"""What is asked of a single response: is it in form, is it clean of benchmarks, and what is its bare code?"""

import re

from selfalign.languages import LANGUAGES
from selfalign.matching.benchmarks import BenchmarkIndex, Evidence
from selfalign.prompts.documents import code_blocks
from selfalign.selection.candidates import Candidate

_PLACEHOLDERS = {
    key: re.compile(rf"(?:{language.comment})\s*(?:todo|fixme)\b|\byour code (?:goes )?here\b", re.IGNORECASE)
    for key, language in LANGUAGES.items()
}


def format_drop(row: Candidate) -> tuple[str, str] | None:
    """Return reason and detail of what makes a response no use, whatever its verdict; None when there is nothing."""
    placeholder = _PLACEHOLDERS[row.language].search(row.response.response)
    if placeholder:
        return "placeholder", placeholder[0]
    if "assert" not in code_blocks(row.response.tests, row.language).lower():  # statements, functions, methods
        return "tests without assertion", ""
    return None


def bare_code(row: Candidate) -> str:
    """Return the code of a response without white space: two that differ there only are the same."""
    return "".join(code_blocks(row.response.response, row.language).split())


class Matches:
    """Finds what a candidate has in common with tasks of benchmarks, once for each.

    Args:
        index: The tasks; None where nothing is to be found.
    """

    def __init__(self, index: BenchmarkIndex | None):
        self.index = index
        self._found: dict[str, list[Evidence]] = {}

    def of(self, row: Candidate) -> list[Evidence]:
        """Return the matches of a candidate, the strongest first."""
        if self.index is None:
            return []
        if row.id not in self._found:
            text = row.response.response
            self._found[row.id] = self.index.find(
                code_blocks(text, row.language), instruction=row.instruction.instruction, response=text
            )
        return self._found[row.id]
