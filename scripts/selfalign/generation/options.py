"""The options that the three generation commands share."""

import argparse
from dataclasses import fields
from pathlib import Path

from selfalign.generation.stages import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options behind `Settings` to a command's parser."""
    parser.add_argument("--model", type=Path, required=True, help="model.json of the generator")
    parser.add_argument("--engine", required=True, help="engine settings as JSON")
    parser.add_argument("--prompts", type=Path, required=True, help="prompt file: headers and worked examples")
    parser.add_argument("--shots", type=int, required=True, help="worked examples in each prompt")
    parser.add_argument("--shot-sets", type=int, required=True, help="different sets of worked examples in the run")
    parser.add_argument("--temperature", type=float, required=True, help="0 is greedy")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus that is sampled from (default: all)")
    parser.add_argument("--max-tokens", type=int, required=True, help="limit of each completion")
    parser.add_argument("--samples", type=int, required=True, help="completions of each input row")
    parser.add_argument("--run-seed", type=int, required=True, help="the config's seed")
    parser.add_argument("--label", required=True, help="for progress lines, for example 'concepts self/00000'")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    parser.add_argument("--stats", type=Path, required=True, help="JSON with counts, times and tokens to write")


def read_options(args: argparse.Namespace) -> Settings:
    """Return the shared options of a parsed command line."""
    return Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
