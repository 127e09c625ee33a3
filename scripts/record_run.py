"""Record what a run is made from: the merged config as YAML, commit, machine and versions as JSON, edits as a patch."""

import argparse
from pathlib import Path

import yaml

from selfalign.archiving.inputs import prompt_digests
from selfalign.records.commands import run_command
from selfalign.records.files import read_json, write_bytes, write_json, write_text
from selfalign.reporting.provenance import collect_provenance

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the merged config and the provenance of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the merged config, as JSON")
    parser.add_argument("--output", type=Path, required=True, help="the merged config, as YAML, in the given order")
    parser.add_argument("--provenance", type=Path, required=True, help="commit, machine and versions, as JSON")
    parser.add_argument("--changes", type=Path, required=True, help="local changes to the code, as a patch of git")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; default: the one of this script")
    parser.add_argument("--locks", nargs="*", default=[], help="lock files of the environments, relative to the root")
    options = parser.parse_args()

    config = read_json(options.config)
    needed = ("run", "seed", "corpora", "generations", "benchmarks")
    if not isinstance(config, dict) or not set(needed) <= config.keys():
        raise ValueError(f"{options.config}: not a merged config (a JSON object with the keys {', '.join(needed)})")
    provenance, changes = collect_provenance(
        seed=config["seed"],
        run=config["run"],
        prompts=prompt_digests(config, (Path(), options.root)),
        locks=[options.root / lock for lock in options.locks],
        root=options.root,
    )
    write_text(options.output, yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100))
    write_bytes(options.changes, changes, with_digest=True)
    write_json(options.provenance, provenance)


if __name__ == "__main__":
    run_command(main)
