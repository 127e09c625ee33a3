"""Judge a round: what is watched of it, and whether a limit is broken, so that it is the last one."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.files import write_json
from selfalign.records.rounds import STOP, read_judgement
from selfalign.records.settings import load_settings
from selfalign.rounds.judging import Limits, judge, load_monitors
from selfalign.rounds.monitors import measure_round


def main() -> None:
    """Parse the command line and judge the round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", type=int, required=True, help="number of the round, from 1")
    parser.add_argument("--generation", type=Path, required=True, help="folder of the round's generation")
    parser.add_argument("--shards", type=int, required=True, help="shards of this and the earlier generations")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs of the round's dataset")
    parser.add_argument("--threshold", type=float, required=True, help="least similarity of near-duplicates")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], help="folders of the earlier generations")
    parser.add_argument("--first", type=Path, help="the judgement of round 1, for a further one")
    parser.add_argument("--limits", required=True, help="what ends the rounds (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="the judgement (JSON)")
    options = parser.parse_args()
    limits = load_settings(Limits, options.limits, "judge_round")
    first = load_monitors(read_judgement(options.first), str(options.first)) if options.first else None
    now = measure_round(options.generation, options.shards, options.pairs, options.threshold, options.earlier)
    judgement = judge(options.round, now, first, limits)
    write_json(options.output, judgement)
    print(f"round {options.round}: {judgement['verdict']}")
    for broken in judgement["broken"]:
        print(f"  {broken['limit']}: {broken['told']}")
    if judgement["verdict"] == STOP:
        print("no further round is made" + ("" if options.round == 1 else ", and no model of this one"))


if __name__ == "__main__":
    run_command(main)
