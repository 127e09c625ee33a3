"""Compare the files of two runs by their digests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from selfalign.archiving.contents import DETERMINISTIC, KINDS, RECORDED, VARYING, Item, run_files
from selfalign.archiving.digests import noted_digest, read_digests
from selfalign.records.rounds import reached
from selfalign.reporting.write import read_config


@dataclass(kw_only=True)
class Comparison:
    """Paths of two runs' files by how they compare.

    Attributes:
        recorded: Identical but for recorded times and the like.
        different: Deterministic files, and the content of recorded ones.
        varying: Different as well, but made by a model that gives something else each time.
        damaged: Of a results folder: not as they were written.
        by_nature: Differ, or are not there, as files of their kind (by path) do in any two runs.
        missing: Of the first run only, and not by nature.
        added: Of the second run only.
    """

    identical: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    varying: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    by_nature: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the second run gave the first one's results."""
        return not (self.varying or self.faults)

    @property
    def faults(self) -> list[str]:
        """Return what no repetition of the first run should have given."""
        return [*self.different, *self.missing, *self.damaged]


def folder_entries(results: Path, entries: Iterable[Mapping] = ()) -> dict[str, dict]:
    """Return the manifest's entries of a results folder, by path.

    Args:
        entries: Of the run that it is compared with: their files are read as these say, whatever the folder's config.
    """
    config = reached(results, read_config(results / "run_config.yaml"))
    items, _ = run_files(results, config)
    found = {item.path: item for item in items}
    for entry in entries:
        path = entry["path"]
        source = results / path.removeprefix("results/")
        if path.startswith("results/") and source.is_file():
            found[path] = Item(path=path, source=source, kind=entry["kind"], without=tuple(entry.get("without", ())))
    made = {}
    for path, item in sorted(found.items()):
        reader = read_digests(item.source, path, item.without)
        made[path] = {"path": path, "size": reader.size, "sha256": reader.sha256, "kind": item.kind}
        made[path] |= {"content_sha256": reader.content, "without": list(item.without)} if item.without else {}
        made[path]["damaged"] = noted_digest(results, item.source) not in (None, reader.sha256)
    return made


def compare_entries(first: Mapping[str, Mapping], second: Mapping[str, Mapping]) -> Comparison:
    """Compare the files below results/ of two runs, given the manifest's entries by path."""
    found = Comparison()
    first, second = (
        {path: entry for path, entry in entries.items() if path.startswith("results/")} for entries in (first, second)
    )
    for path, entry in first.items():
        other = second.get(path)
        if entry.get("damaged") or (other and other.get("damaged")):
            found.damaged.append(path)
        elif other is None and entry["kind"] in (DETERMINISTIC, RECORDED, VARYING):
            found.missing.append(path)
        elif other is None:
            found.by_nature[path] = entry["kind"]
        elif other["sha256"] == entry["sha256"]:
            found.identical.append(path)
        elif "content_sha256" in entry and entry["content_sha256"] == other.get("content_sha256"):
            found.recorded.append(path)
        elif entry["kind"] in (DETERMINISTIC, RECORDED):
            found.different.append(path)
        elif entry["kind"] == VARYING:
            found.varying.append(path)
        else:
            found.by_nature[path] = entry["kind"]
    found.added = sorted(second.keys() - first.keys())
    return found


def describe(found: Comparison, manifest: Mapping, most: int = 20) -> list[str]:
    """Return a comparison in lines: what differs by path, the rest by number."""
    kinds = {entry["path"]: entry for entry in manifest["files"]}
    lines = [f"identical: {len(found.identical):,} files"]
    fields = sorted({name for path in found.recorded for name in kinds[path]["without"]})
    if found.recorded:
        lines.append(f"identical but for recorded fields: {len(found.recorded):,} files ({', '.join(fields)})")
    lines += _list("different", found.different, most)
    lines += _list("damaged or edited after they had been written", found.damaged, most)
    if found.varying:
        lines.append(f"different, as may be: {len(found.varying):,} files; {VARYING}: {KINDS[VARYING]}")
    lines += _list("missing in the folder", found.missing, most)
    lines += _list("only in the folder", found.added, most)
    for kind in dict.fromkeys(found.by_nature.values()):
        paths = [path for path, other in found.by_nature.items() if other == kind]
        lines.append(f"differ by nature, {kind}: {len(paths):,} files; {KINDS[kind]}")
    if found.recorded or found.different:
        lines.append(f"recorded fields: {KINDS[RECORDED]}")
    return lines


def _list(what: str, paths: list[str], most: int) -> list[str]:
    if not paths:
        return []
    shown = [f"  {path}" for path in paths[:most]]
    return [f"{what}: {len(paths):,} files", *shown, *([f"  and {len(paths) - most:,} more"] if paths[most:] else [])]
