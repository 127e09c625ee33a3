"""`model.json`: which checkpoint a model is, where it lies, and a digest of what it answers with."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from selfalign.records.files import file_digest, read_json, write_json

SERVED = "served:"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
CONFIG_FILES = re.compile(
    r"config\.json|generation_config\.json|special_tokens_map\.json|added_tokens\.json|tokenizer_config\.json|"
    r"merges\.txt|chat_template\.(jinja|json)|.*\.(safetensors|bin)(\.index\.json)?"
)
WEIGHT_FILES = re.compile(r"(model|pytorch_model|consolidated).*\.(safetensors|bin)")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One `model.json`.

    Attributes:
        path: The `model.json` file itself.
        name_or_path: A hub id; or a folder, recognised by a leading `.` or `/`, relative to the file's own folder;
            or `served:NAME`, a model that only a server has.
        revision: Commit of the hub repository; None for folders.
        digest: Of the names and contents of weights, configuration and tokenizer.
        chat_template: Whether the tokenizer has one.
        trained_from: What training recorded about the checkpoint's origin, or None.
    """

    path: Path
    name_or_path: str
    revision: str | None
    digest: str
    chat_template: bool
    trained_from: dict | None

    def folder(self) -> Path:
        """Return the local folder that holds the checkpoint.

        Raises:
            ValueError: it is gone, or the model is only served; the text says what to do.
        """
        if self.name_or_path.startswith(SERVED):
            raise ValueError(
                f"{self.path}: {self.name_or_path} has no weights here; only the engine of kind openai can use it"
            )
        if self.name_or_path[0] in "./":
            folder = Path(os.path.normpath(self.path.parent / self.name_or_path))
        else:
            folder = _download(self.name_or_path, self.revision, local_files_only=True)
        check_folder(folder)
        return folder


def read_model(path: str | Path) -> Model:
    """Read a `model.json` file.

    Raises:
        ValueError: the file is missing or has other keys; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such model file; fetch_model writes one for a hub id or a folder")
    data = read_json(path)
    try:
        return Model(path=path, **data)
    except TypeError as error:
        raise ValueError(f"{path}: not a model file ({error}); delete it and run again to remake it") from error


def write_model(
    output: str | Path,
    folder: str | Path,
    *,
    name_or_path: str = ".",
    revision: str | None = None,
    trained_from: dict | None = None,
) -> None:
    """Write the `model.json` of the checkpoint in `folder`; the default name says that they lie side by side."""
    folder = Path(folder)
    check_folder(folder)
    write_json(
        output,
        {
            "name_or_path": name_or_path,
            "revision": revision,
            "digest": model_digest(folder),
            "chat_template": _has_chat_template(folder),
            "trained_from": trained_from,
        },
    )


def check_folder(folder: Path) -> None:
    """Raise ValueError unless the folder holds a configuration, a tokenizer and weights; the text says what lacks."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such model folder; fetch or train the model again")
    names = sorted(path.name for path in folder.iterdir())
    lacking = []
    if "config.json" not in names:
        lacking.append("config.json")
    if not set(TOKENIZER_FILES) & set(names):
        lacking.append("a tokenizer (tokenizer.json or tokenizer.model)")
    if not any(WEIGHT_FILES.fullmatch(name) for name in names):
        lacking.append("weights (model*.safetensors or pytorch_model*.bin)")
    if lacking:
        raise ValueError(
            f"{folder}: not a model folder, it lacks {', '.join(lacking)}. Give a folder written by save_pretrained() "
            "of the model and of its tokenizer, or a hub id"
        )


def model_digest(folder: str | Path) -> str:
    """Return a digest of the names and contents of weights, configuration and tokenizer; other files do not count."""
    total = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if CONFIG_FILES.fullmatch(path.name) or path.name in TOKENIZER_FILES:
            total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()


def fetch_model(pretrained: str, output: str | Path, root: str | Path) -> Model:
    """Find a model and write its `model.json`.

    Args:
        pretrained: A folder (relative ones are tried against the working directory, then against `root`), a hub id,
            or `served:NAME` for a model that only an OpenAI-compatible server has.
        output: The `model.json` to write.
        root: Folder of the repository.

    Raises:
        ValueError: nothing was found; says what was tried and how to mend it.
    """
    output = Path(output)
    if pretrained.startswith(SERVED):
        value = {"name_or_path": pretrained, "revision": None, "chat_template": False, "trained_from": None}
        write_json(output, {**value, "digest": hashlib.sha256(pretrained.encode()).hexdigest()})
        return read_model(output)
    tried = list(dict.fromkeys((Path.cwd() / Path(pretrained).expanduser(), Path(root).resolve() / pretrained)))
    folder = next((path for path in tried if path.is_dir()), None)
    if folder is not None:
        write_model(output, folder, name_or_path=_reference(folder, output))
        return read_model(output)
    places = " and ".join(str(path) for path in tried)
    if not HUB_ID.fullmatch(pretrained) or pretrained.startswith("."):
        raise ValueError(f"model {pretrained!r}: no such folder (tried {places}), and it is no hub id (owner/name)")
    try:
        folder = _download(pretrained, None)
    except ValueError as error:
        raise ValueError(f"{error}. As a folder it was sought at {places}") from error
    write_model(output, folder, name_or_path=pretrained, revision=folder.name)
    return read_model(output)


def _reference(folder: Path, output: Path) -> str:
    """Return how `output` names the folder: relative while both lie below the working directory, else absolute."""
    folder, here = folder.resolve(), Path.cwd().resolve()
    beside = output.parent.resolve()
    if folder.is_relative_to(here) and beside.is_relative_to(here):
        relative = os.path.relpath(folder, beside)
        return relative if relative.startswith(".") else f"./{relative}"
    return str(folder)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def _download(name: str, revision: str | None, *, local_files_only: bool = False) -> Path:
    """Return the folder of a hub model in the local cache, downloading what is missing.

    Raises:
        ValueError: unknown model, no access or hub out of reach; names the id and the fix.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
    try:
        for allow in (patterns, [*patterns, "*.bin"]):
            folder = snapshot_download(
                name,
                revision=revision,
                allow_patterns=allow,
                ignore_patterns=["*/*"],
                local_files_only=local_files_only,
            )
            if any(WEIGHT_FILES.fullmatch(path.name) for path in Path(folder).iterdir()):
                break
    except GatedRepoError as error:
        raise ValueError(
            f"model {name!r}: the hub asks for an account; accept its licence there and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"model {name!r}: the hub has no such model; check the spelling, or set HF_TOKEN for a private one"
        ) from error
    except (OSError, HFValidationError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"model {name!r}: not in the local cache {constants.HF_HUB_CACHE}, and the hub cannot be reached{offline}: "
            f"{reason}. Download it where there is a network (hf download {name}) and set HF_HOME "
            "to that cache, or give a folder"
        ) from error
    return Path(folder)
