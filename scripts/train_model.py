"""Fine-tune a base model on pairs of instruction and response, in one process or several.

Under a launcher (torchrun, `accelerate launch`, for several machines) each process runs this command without --gpus.
"""

import argparse
import sys
from pathlib import Path

from selfalign.records.commands import run_command
from selfalign.records.settings import load_settings
from selfalign.training.settings import TrainSettings


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="model.json of the model to start from")
    parser.add_argument("--pairs", type=Path, required=True, help="training pairs, JSON lines")
    parser.add_argument("--preferences", type=Path, help="for the objective dpo: preference pairs, JSON lines")
    parser.add_argument("--settings", default="{}", help="training settings as JSON; see TrainSettings")
    parser.add_argument("--run-seed", type=int, required=True, help="the run's seed")
    parser.add_argument("--label", default="training", help="name in progress lines and statistics")
    parser.add_argument("--save-steps", type=int, default=50, help="steps between two points to resume from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--gpus", type=int, default=1, help="train with a process for each of so many GPUs, if any")
    count.add_argument("--processes", type=int, help="train with so many processes, on GPUs or CPUs")
    options = parser.parse_args()
    settings = load_settings(TrainSettings, options.settings, "training")

    from selfalign.training.launching import is_worker, launch, processes_for, use_first_gpu, work

    processes = 1 if is_worker() else options.processes or processes_for(options.gpus)
    if processes > 1:
        launch(processes, sys.argv)
        return

    def train() -> None:
        from selfalign.training.command import train_model

        train_model(
            base=options.base,
            pairs=options.pairs,
            preferences=options.preferences,
            settings=settings,
            run_seed=options.run_seed,
            label=options.label,
            save_steps=options.save_steps,
            output=options.output,
        )

    if is_worker():
        work(train)
    else:
        use_first_gpu()
        train()


if __name__ == "__main__":
    run_command(main)
