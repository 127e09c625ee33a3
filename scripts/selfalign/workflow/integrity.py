"""Before a run: what has changed since it was written is set aside, so that it is made anew."""

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
