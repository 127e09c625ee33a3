"""Before a run: what has changed since it was written is set aside, and no file is of the future."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from selfalign.records import digests

MODEL = "model.json"  # written last: a checkpoint without it is no checkpoint


def refuse_changed_artifacts() -> None:
    """Set aside each artifact that was damaged or edited since it was written.

    Raises:
        ValueError: there is one, and what the run is about to make would follow from it; names all.
    """
    found = []
    for path in digests.changed():
        found.append(path)
        digests.set_aside(path)
        if (model := path.with_name(MODEL)).exists():
            found.append(model)
            digests.set_aside(model)
    if found:
        raise ValueError(f"{digests.ChangedError(*found)}. {digests.REMEDY}")


def date_now(paths: Iterable[str]) -> None:
    """Give files of the future the present time. A clock was ahead when they were made.

    Snakemake lets a job fail whose output is older than an input. All get the same time, so none becomes newer than
    another; times of digests do not matter, since files of another time are read.
    """
    now = time.time()
    future = [path for path in map(Path, paths) if path.is_file() and path.stat().st_mtime > now]
    for path in future:
        os.utime(path, (now, now))
    if future:
        print(
            f"{len(future)} files were dated in the future ({future[0]}), so a clock was wrong; they have the present "
            "time now",
            file=sys.stderr,
        )
