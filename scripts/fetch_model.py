"""Find a model (a folder, a hub id, or one that a server has) and write its model.json."""

import argparse
from pathlib import Path

from selfalign.engines.models import fetch_model
from selfalign.records.commands import run_command

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    """Parse the options and fetch the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretrained", required=True, help="folder, hub id, or served:NAME")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="second place for relative folders")
    parser.add_argument("--output", type=Path, required=True, help="the model.json to write")
    args = parser.parse_args()
    fetch_model(args.pretrained, args.output, args.root)


if __name__ == "__main__":
    run_command(main)
