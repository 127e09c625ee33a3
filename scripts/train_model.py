"""Fine-tune a base model on pairs of instruction and response; runs as is or under `accelerate launch`."""

import argparse
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.training.settings import TrainSettings


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="model.json of the model to start from")
    parser.add_argument("--pairs", type=Path, required=True, help="training pairs, JSON lines")
    parser.add_argument("--settings", default="{}", help="training settings as JSON; see TrainSettings")
    parser.add_argument("--run-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--label", default="training", help="name in progress lines and statistics")
    parser.add_argument("--save-steps", type=int, default=50, help="steps between two points to resume from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    options = parser.parse_args()
    settings = load_settings(TrainSettings, options.settings, "training")

    from selfalign.training.loop import train_model

    train_model(
        base=options.base,
        pairs=options.pairs,
        settings=settings,
        run_seed=options.run_seed,
        label=options.label,
        save_steps=options.save_steps,
        output=options.output,
    )


if __name__ == "__main__":
    run_command(main)
