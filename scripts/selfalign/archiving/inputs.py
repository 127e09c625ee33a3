"""The prompt files of a run: which ones its config names, where they lie, and what was in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from selfalign.records.files import file_digest
from selfalign.seeds.filters import JUDGE, DocstringJudge


def prompt_files(config: Mapping) -> list[str]:
    """Return the prompt files of a config, as it names them: of generations, judges and few-shot benchmarks."""
    filters = [item for corpus in config["corpora"].values() for item in corpus.get("filters", ())]
    judges = [{"prompts": DocstringJudge.prompts} | item for item in filters if item["name"] in JUDGE]
    entries = [*judges, *config["generations"].values(), *config["benchmarks"].values()]
    return list(dict.fromkeys(entry["prompts"] for entry in entries if entry.get("prompts")))


def find_input(path: str, folders: Sequence[Path]) -> Path | None:
    """Return a file of the config: the first that is there of those relative to the folders; None if there is none."""
    return next((folder / path for folder in folders if (folder / path).is_file()), None)


def prompt_digests(config: Mapping, folders: Sequence[Path]) -> dict[str, str]:
    """Return the digest of each prompt file of a config, by the path in it.

    Raises:
        ValueError: one is in none of the folders.
    """
    found = {path: find_input(path, folders) for path in prompt_files(config)}
    if missing := [path for path, source in found.items() if source is None]:
        raise ValueError(
            f"prompt file not found: {', '.join(missing)}; put it back where the config names it, from the working "
            "directory or the repository"
        )
    return {path: file_digest(source) for path, source in found.items() if source}


def edited_since(path: str, source: Path, provenance: Mapping) -> str | None:
    """Return that a prompt file is not the one of the run, as its provenance has it; None where nothing speaks for it.

    Args:
        path: The file as the config names it.
        source: Where it is.
        provenance: What `record_run` wrote; of an older run it may have no digests.
    """
    recorded = provenance.get("prompts", {}).get(path)
    if recorded is None or (now := file_digest(source)) == recorded:
        return None
    return f"the prompt file {path} was edited after the run (SHA-256 {now[:12]}, in the run {recorded[:12]})"
