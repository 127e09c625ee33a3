"""What an unpacked archive says about repeating its run: which code, which prompts, and what it does not have."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from selfalign.reporting.artifacts import read_provenance
from selfalign.reporting.repository import describe_code
from selfalign.reporting.write import read_config


def describe_repetition(folder: Path, manifest: Mapping) -> list[str]:
    """Return, in lines, what else than the archive it takes to repeat its run.

    Args:
        folder: The unpacked archive.
    """
    made_with = read_provenance(folder / "results/provenance.json") or {}
    lines = describe_code(made_with)
    if not made_with.get("git"):
        lines.append("  take the code from whoever made the run; its versions stand in results/provenance.json")
    if any(Path(path).parts[:2] != ("inputs", "elsewhere") for path in manifest["inputs"].values()):
        lines.append(f"Prompts: copy what is in {folder}/inputs into the folder of the new run")
    lines += [
        f"  copy {folder}/{path} to {named}, where the config names it"
        for named, path in manifest["inputs"].items()
        if Path(path).parts[:2] == ("inputs", "elsewhere")
    ]
    if needed := list(dict.fromkeys(_named(read_config(folder / "results/run_config.yaml")))):
        lines.append("Named by the config, not in the archive, and of the repository or yours to bring:")
        lines += [f"  {path}" for path in needed]
    return lines


def _named(config: Mapping) -> Iterator[str]:
    """Yield the files and folders that a config names besides prompts; a pretrained model may be one, or on the hub."""
    for corpus in config["corpora"].values():
        yield from [corpus["source"]["path"]] if "path" in corpus["source"] else corpus["source"].get("paths", ())
    yield from (model["pretrained"] for model in config["models"].values() if "pretrained" in model)
    yield from (benchmark["path"] for benchmark in config["benchmarks"].values() if benchmark.get("path"))
