"""Check an archive of a run against its manifest, compare a results folder with it, or unpack it to repeat the run."""

import argparse
from pathlib import Path

from selfalign.archiving.files import compare_entries, describe, folder_entries
from selfalign.archiving.reading import read_archive, results_folder, unpack
from selfalign.archiving.repeating import describe_repetition
from selfalign.records.commands import print_lines, run_command


def main() -> int:
    """Check, and say what is wrong; 1 where the archive has a fault or the folder other results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="the archive, .tar.zst")
    parser.add_argument("--results", type=Path, help="a results folder, of a run that was repeated")
    parser.add_argument("--unpack", type=Path, metavar="DIR", help="a new folder for the archive's files")
    options = parser.parse_args()
    checked = unpack(options.archive, options.unpack) if options.unpack else read_archive(options.archive)
    if checked.faults:
        print_lines(checked.faults)
    held = sum(entry["included"] for entry in checked.manifest["files"])
    if checked.faults:
        print(f"{options.archive}: {len(checked.faults):,} faults; {held:,} files should be in it")
        return 1
    print(f"{options.archive}: all {held:,} files are as the manifest says")
    if options.unpack:
        print(f"unpacked into {options.unpack}")
        print_lines(describe_repetition(options.unpack, checked.manifest))
    if options.results is None:
        return 0
    entries = {entry["path"]: entry for entry in checked.manifest["files"]}
    found = compare_entries(entries, folder_entries(results_folder(options.results), entries.values()))
    print_lines(describe(found, checked.manifest))
    if found.same:
        print("The same results.")
    elif found.faults:
        print("Not the same results.")
    else:
        print(
            "Not the same bytes, but only of what models gave, which differs from run to run here. Digests cannot tell "
            "that from other causes: compare counts and scores with scripts/compare_runs.py."
        )
    return 0 if found.same else 1


if __name__ == "__main__":
    run_command(main, makes=False)
