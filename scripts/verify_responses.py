"""Run every response with its own tests in the sandbox and write one verdict for each."""

import argparse

from selfalign.languages import LANGUAGES
from selfalign.prompts.documents import code_blocks
from selfalign.records.commands import run_command
from selfalign.records.files import read_jsonl
from selfalign.records.rows import Response, load_rows
from selfalign.records.settings import load_settings
from selfalign.sandbox import Program, SandboxSettings, source_key, verify


def main() -> None:
    """Judge one shard of responses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", required=True, help="response rows (JSON lines)")
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="of the programs (default: python)")
    parser.add_argument("--sandbox", required=True, help="sandbox settings as JSON")
    parser.add_argument("--workers", type=int, required=True, help="programs that run at the same time")
    parser.add_argument("--label", required=True, help="name of the shard in progress lines and stats")
    parser.add_argument("--output", required=True, help="verdict rows (JSON lines)")
    parser.add_argument("--stats", required=True, help="JSON file with counts and times")
    options = parser.parse_args()
    language = options.language
    key = source_key(options.responses)
    rows = load_rows(Response, read_jsonl(options.responses), options.responses)
    verify(
        [
            Program(id=row.id, code=code_blocks(row.response, language), tests=code_blocks(row.tests, language))
            for row in rows
            if row.drop is None
        ],
        load_settings(SandboxSettings, options.sandbox, "sandbox settings"),
        workers=options.workers,
        output=options.output,
        stats=options.stats,
        label=options.label,
        key=key,
        language=language,
    )


if __name__ == "__main__":
    run_command(main)
