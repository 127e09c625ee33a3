"""Random snippets of source files as seeds: the ablation of SelfCodeAlign's table 10, and OSS-Instruct's seeds.

As in Magicoder (arXiv 2312.02120, section 2.1): from each file one run of 1 to 15 consecutive lines, whatever they are.
"""

import textwrap
from collections.abc import Iterator

from selfalign.records.commands import derive_seed
from selfalign.records.files import digest
from selfalign.records.rows import Function
from selfalign.seeds.extraction import Extraction
from selfalign.seeds.sources import SourceFile

MOST_LINES = 15


def extract_snippet(text: str, source: SourceFile, extraction: Extraction, *, run_seed: int) -> Iterator[Function]:
    """Yield a snippet of one file, drawn by the run's seed and the file's name, or count why there is none.

    Args:
        text: The file with newlines as line ends.
    """
    extraction.files["read"] += 1
    lines = text.split("\n")
    count = 1 + derive_seed(run_seed, "snippet lines", *source.identity) % MOST_LINES
    start = derive_seed(run_seed, "snippet start", *source.identity) % max(len(lines) - count + 1, 1)
    code = textwrap.dedent("\n".join(lines[start : start + count])).strip("\n")
    if not code.strip():
        extraction.dropped["empty snippet"] += 1
        return
    extraction.kept += 1
    yield Function(
        id=digest(*source.identity, start + 1, code)[:16],
        code=code,
        name="",
        imports="",
        docstring="",
        package=source.package,
        version=source.version,
        path=source.path,
        line=start + 1,
        licence=source.licence,
    )
