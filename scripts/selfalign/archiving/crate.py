"""The run as a Process Run Crate (https://w3id.org/ro/wfrun/process): which job made which file from which.

Written with ro-crate-py. Files that the archive holds are its data entities; those of which it has the digest only are
described, too. Jobs are actions, the commands of the workflow their instruments.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from selfalign.archiving.jobs import Job
from selfalign.reporting.artifacts import read_provenance

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".svg": "image/svg+xml",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
}  # others are plain text
ROOT_VARIABLE = "$ROOT"  # the repository, in place of a machine's path


def crate_metadata(manifest: Mapping, results: Path, config: Mapping, jobs: Sequence[Job], root: Path) -> dict:
    """Return the crate's JSON-LD.

    Args:
        manifest: Of the archive, with all of its files but the crate itself.
        jobs: What is known of the jobs; those that made no file of the manifest are left out.
        root: The repository.
    """
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    made_with = read_provenance(results / "provenance.json") or {}
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    crate.name = f"Run {config['run']} of selfalign, seed {config['seed']}"
    crate.description = (
        "A base code model aligned with itself: settings, seeds, everything that was generated, verdicts, training "
        "pairs, scores, report, and how each file was made."
    )
    ends = [datetime.fromtimestamp(job.end, UTC) for job in jobs]
    crate.datePublished = max(ends, default=datetime.fromtimestamp((results / "run_config.yaml").stat().st_mtime, UTC))

    def describe(identity: str, kind: str, **properties: object):
        return crate.add(ContextEntity(crate, identity, properties={"@type": kind, **properties}))

    crate.root_dataset["conformsTo"] = describe(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    crate.license = describe("#licence", "CreativeWork", name="Mixed", description=_licences(results, config))
    files = {}
    for entry in manifest["files"]:
        facts = {"name": Path(entry["path"]).name, "contentSize": entry["size"], "sha256": entry["sha256"]}
        facts["description"] = f"{entry['kind']}: {manifest['kinds'][entry['kind']]}"
        if entry["included"]:
            facts["encodingFormat"] = FORMATS.get(Path(entry["path"]).suffix, "text/plain")
            files[entry["path"]] = crate.add_file(dest_path=entry["path"], properties=facts)
        else:
            files[entry["path"]] = describe(f"#{entry['path']}", "CreativeWork", **facts)
    for name, model in manifest["models"].items():
        described = describe(
            f"#model-{name}", "CreativeWork", name=f"model {name}", identifier=f"sha256:{model['digest']}"
        )
        if not model["name_or_path"].startswith((".", "/")):
            described["alternateName"] = model["name_or_path"]
        if path := files.get(f"results/models/{name}/model.json"):
            path["about"] = described
        origin = model["trained_from"]
        bases = [
            other
            for other, found in manifest["models"].items()
            if origin and found["digest"] == origin["base"]["digest"]
        ]
        if bases:
            described["isBasedOn"] = {"@id": f"#model-{bases[0]}"}
    commit = (made_with.get("git") or {}).get("commit")
    actions = []
    for number, job in enumerate(job for job in jobs if any(name in files for name in job.outputs)):
        instrument = crate.get(f"#{job.rule}") or describe(
            f"#{job.rule}",
            "SoftwareApplication",
            name=f"scripts/{job.rule}.py",
            softwareVersion=commit or "unknown",
            description=f"The command behind the rule {job.rule}",
        )
        inputs = [_input(name, files, manifest["inputs"], root, describe) for name in job.inputs]
        action = crate.add_action(
            instrument,
            identifier=f"#job-{number}",
            object=_plain(inputs),
            result=_plain([files[name] for name in job.outputs if name in files]),
            properties={
                "name": f"{job.rule}: {job.outputs[0]}",
                "description": job.command.replace(str(root), ROOT_VARIABLE),
                "startTime": _time(job.start),
                "endTime": _time(job.end),
                "actionStatus": "http://schema.org/CompletedActionStatus",
            },
        )
        actions.append(action)
    crate.root_dataset["mentions"] = actions
    return crate.metadata.generate()


def _input(name: str, files: Mapping, inputs: Mapping[str, str], root: Path, describe):
    """Return the entity of a job's input: a file of the archive, or one outside of it.

    Args:
        inputs: Where the archive has the files that the config names, by their paths there.
    """
    path = Path(name)
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else None
    for known in (name, inputs.get(name), inside and inputs.get(inside)):
        if known in files:
            return files[known]
    shown = f"{ROOT_VARIABLE}/{inside}" if inside else name
    return describe(f"#{shown}", "CreativeWork", name=shown, description="Not in the archive")


def _plain(entities: list):
    """Return a list as it is written: one entity alone stands without brackets."""
    return entities[0] if len(entities) == 1 else entities


def _licences(results: Path, config: Mapping) -> str:
    """Return under which licences the seeds are, and what holds of what the model wrote."""
    import pyarrow.parquet

    counts: Counter = Counter()
    for corpus in config["corpora"]:
        path = results / "corpora" / corpus / "seeds.parquet"
        if path.is_file():
            counts.update(pyarrow.parquet.read_table(path, columns=["licence"])["licence"].to_pylist())
    seeds = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    told = f"Each seed keeps the licence of its source ({seeds}). " if seeds else ""
    return f"{told}What a model wrote is subject to the licence of the model."


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
