"""Commit and local changes of the code that made a run, so that both can be had again."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from selfalign.records.files import file_digest

HASHED = 64_000_000  # bytes; a larger untracked file is told by its size alone
PATCHED = 5_000_000  # bytes of all untracked files in the patch, the smallest first; others are told by name
PATCH = (  # which `git apply` takes, whatever the user's settings say
    *("diff", "HEAD", "--binary", "--full-index", "--unified=3", "--no-relative", "--submodule=short", "--no-color"),
    *("--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "-O/dev/null"),
)


def _git(root: Path, *arguments: str, index: Path | None = None, given: bytes = b"") -> bytes | None:
    """Return what a git command prints; None where it fails, with git's words on stderr."""
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment, input=given)
    except FileNotFoundError:
        told = "git is not installed"
    else:
        if done.returncode == 0:
            return done.stdout
        told = done.stderr.decode(errors="backslashreplace").strip() or f"git ended with code {done.returncode}"
    print(f"warning: git {arguments[0]} in {root} failed: {told}", file=sys.stderr)
    return None


def git_state(root: Path) -> tuple[dict | None, bytes]:
    """Return commit and local changes of the repository at `root`, and the changes as a patch.

    None and nothing, with a warning, where there is no repository that git can read. `diff_digest` is over the patch,
    so that two runs of the same edited tree can be told equal. The patch has untracked files, too, up to `PATCHED`
    bytes; of each, name, size and digest are told, and whether it is in the patch.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, b""
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    index = _git(root, "rev-parse", "--git-path", "index")
    if listed is None or index is None:
        return None, b""
    names = sorted(os.fsdecode(name) for name in listed.split(b"\0") if name)
    chosen = _chosen(root, names)
    with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
        copy = Path(folder, "index")  # the user's own stays as it is
        own = root / os.fsdecode(index.rstrip(b"\n"))
        if own.is_file():
            shutil.copy2(own, copy)  # with its time, by which git knows which files it has to read
        added = b"\0".join(os.fsencode(name) for name in chosen)
        add = ("--literal-pathspecs", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        if chosen and _git(root, *add, index=copy, given=added) is None:
            chosen = []
        diff = _git(root, *PATCH, index=copy)
    if diff is None:
        return None, b""
    state = {
        "commit": commit.decode().strip(),
        "dirty": bool(diff or names),
        "diff_digest": hashlib.sha256(diff).hexdigest() if diff else None,
        "untracked": [_untracked(root, name) | {"in_patch": name in chosen} for name in names],
    }
    return state, diff


def _chosen(root: Path, names: Sequence[str]) -> list[str]:
    """Return the untracked files and links that the patch has room for, the smallest first."""
    sizes = {}
    for name in names:
        path = root / name
        if path.is_symlink() or (path.is_file() and os.access(path, os.R_OK)):
            sizes[name] = path.lstat().st_size
    chosen, room = [], PATCHED
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        room -= sizes[name]
        if room < 0:
            break
        chosen.append(name)
    return chosen


def _untracked(root: Path, name: str) -> dict:
    """Return name, size and digest of an untracked file; neither of what is no file."""
    path = root / name
    size = path.stat().st_size if path.is_file() else None
    known = size is not None and size <= HASHED and os.access(path, os.R_OK)
    shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return {"path": shown, "size": size, "sha256": file_digest(path) if known else None}


def describe_code(provenance: Mapping) -> list[str]:
    """Return, in lines, which code made a run, and what of it nobody kept."""
    state = provenance.get("git")
    if not state:
        return ["Code: no commit is recorded, as git could read no repository; the code itself is not kept"]
    lines = [f"Code: commit {state['commit']}"]
    if state["diff_digest"]:
        kept = [file["path"] for file in state["untracked"] if file.get("in_patch")]
        lines[0] += " with local changes, in changes.patch" + (f"; new files there: {_few(kept)}" if kept else "")
    if lost := [file["path"] for file in state["untracked"] if not file.get("in_patch")]:
        lines.append(f"  untracked files that are not kept, only named: {_few(lost)}")
    return lines


def _few(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most:,} more" if names[most:] else ""
    return ", ".join(names[:most]) + more
