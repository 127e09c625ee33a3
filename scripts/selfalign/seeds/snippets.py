"""Random snippets of source files as seeds: the ablation of SelfCodeAlign's table 10, and OSS-Instruct's seeds.

As in Magicoder (arXiv 2312.02120, section 2.1): from each file one run of 1 to 15 consecutive lines, whatever they are.
"""

import textwrap
from collections.abc import Iterable, Iterator

from selfalign.records.commands import derive_seed
from selfalign.records.files import digest
from selfalign.records.rows import Function
from selfalign.seeds.extraction import Extraction, Unreadable, decode_source
from selfalign.seeds.sources import SourceFile

MOST_LINES = 15


def extract_snippets(files: Iterable[SourceFile], extraction: Extraction, run_seed: int) -> Iterator[Function]:
    """Yield a snippet of each file, drawn by the run's seed and the file's name; every file is accounted for."""
    for source in files:
        if source.left_out:
            extraction.files[source.left_out] += 1
            continue
        try:
            lines = decode_source(source.read()).split("\n")
        except Unreadable as error:
            extraction.files[str(error)] += 1
            continue
        except OSError as error:
            extraction.files[f"cannot be read: {error.strerror}"] += 1
            continue
        extraction.files["read"] += 1
        count = 1 + derive_seed(run_seed, "snippet lines", *source.identity) % MOST_LINES
        start = derive_seed(run_seed, "snippet start", *source.identity) % max(len(lines) - count + 1, 1)
        code = textwrap.dedent("\n".join(lines[start : start + count])).strip("\n")
        if not code.strip():
            extraction.dropped["empty snippet"] += 1
            continue
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
