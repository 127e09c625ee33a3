"""What a run was made with: commit, machine, versions. Recorded once per run, beside the merged config."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from selfalign.records.files import file_digest
from selfalign.reporting.repository import git_state


def cpu_model() -> str | None:
    """Return the processor's name, or None where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def memory_gib() -> float | None:
    """Return the machine's memory in GiB, or None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def package_versions() -> dict[str, str]:
    """Return name and version of every package of the running interpreter's environment, by name."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name, distribution.version)  # the first on sys.path is the one that is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def collect_provenance(
    *, seed: int, run: str, prompts: Mapping[str, str], locks: Sequence[Path], root: Path
) -> tuple[dict, bytes]:
    """Return everything a run was made with, as plain JSON values, and the repository's local changes as a patch.

    Neither holds a time, so equal runs give equal files.

    Args:
        seed: The run's seed.
        run: The run's name.
        prompts: Digests of the prompt files, by their paths in the config.
        locks: Lock files of the environments; recorded by digest.
        root: The repository.

    Raises:
        ValueError: a lock file is missing.
    """
    missing = [str(path) for path in locks if not path.is_file()]
    if missing:
        raise ValueError(f"lock file not found: {', '.join(missing)}; name existing files after --locks")
    state, changes = git_state(root)
    found = {
        "run": run,
        "seed": seed,
        "git": state,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory_gib(),
        "packages": package_versions(),
        "locks": {path.name: file_digest(path) for path in sorted(locks)},
        "prompts": dict(prompts),
    }
    return found, changes
