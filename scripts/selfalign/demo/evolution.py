"""How the demo's tasks are changed: the changes that Evol-Instruct asks for, in the task family."""

import random
from dataclasses import replace

from selfalign.demo.operations import Operation
from selfalign.demo.tasks import Task, is_held_out, is_sequence, sample_operations, sample_task

ADD = "Add one more step."
EXCHANGE = "Exchange one step for a less common one."
CLASS = "Ask for a class."
PROGRAM = "Ask for a program with helpers."
CHANGES = (ADD, EXCHANGE, CLASS, PROGRAM)
MOST_STEPS = 3


def change_task(rng: random.Random, task: Task, change: str) -> Task:
    """Return the changed task; where the family has no room for a further step, one is exchanged instead."""
    names = sample_task(rng)  # for its names and wording only
    changed = replace(task, joiner=names.joiner, method=names.method, phrasing=names.phrasing)
    if change in (CLASS, PROGRAM):
        return replace(changed, category="class" if change == CLASS else "program")
    operations = list(task.operations)
    longer = change == ADD and len(operations) < MOST_STEPS
    while True:
        drawn = sample_operations(rng, len(operations) + longer, held_out=None)
        if longer:
            found = _with_one_more(rng, operations, drawn)
        else:
            place = rng.randrange(len(operations))
            found = [*operations[:place], drawn[place], *operations[place + 1 :]]
        known = not is_held_out(tuple(operation.kind.name for operation in found))
        if known and tuple(found) != task.operations and is_sequence(tuple(found)):
            return replace(changed, operations=tuple(found))


def _with_one_more(rng: random.Random, operations: list[Operation], drawn: tuple[Operation, ...]) -> list[Operation]:
    """Return the operations with one of the drawn ones put in: at the end, or before a step that ends a task."""
    place = len(operations) - 1 if operations[-1].kind.final else len(operations)
    return [*operations[:place], drawn[place], *operations[place:]]
