"""`mtl train --resume RUN --iterations N`: a run goes on to another end than it was begun with."""

import sys
from dataclasses import replace

from mtlcli.errors import InputError
from mtlcli.files import write_json
from mtlcli.ops import processes as distributed
from mtlcli.recipes._recipe import recipe
from mtlcli.runs.folder import RECORD
from mtlcli.runs.record import Record
from mtlcli.training.state import State


def extend(state: State, record: Record, iterations: int | None) -> None:
    """Change the last iteration of a run, in its state and in run.json, before it goes on.

    From here on the learning rate follows the schedule over the new length. run.json tells it at
    once: whatever stops the run, it is resumed to the same end.

    Args:
        state: of the run, as restored.
        record: of the run.
        iterations: the new length; None: that of the record.

    Raises:
        InputError: more iterations are done already.
        RunError: run.json cannot be written.
    """
    before, done = record.config.iterations, state.iteration
    if iterations in (None, before):
        return
    assert iterations is not None
    if record.stopped:
        raise InputError(
            f"--resume {state.folder} --iterations {iterations}: --patience ended the run at "
            f"iteration {record.stopped}; --from begins another one with its weights."
        )
    if iterations < done:
        raise InputError(
            f"--resume {state.folder}: --iterations {iterations} are fewer than the {done} that "
            "are done."
        )
    state.config = replace(state.config, iterations=iterations)
    config = replace(record.config, iterations=iterations)
    first = {"from": 0, "iterations": before}
    history = [each for each in record.lengths or [first] if each["from"] < done]
    lengths = [*history, {"from": done, "iterations": iterations}]
    new = replace(record, config=config, lengths=lengths)
    if new.recipe:
        departures = new.departures(recipe(new.recipe["name"]))
        new = replace(new, recipe={**new.recipe, "overrides": departures})
    distributed.by_first(lambda: write_json(state.folder / RECORD, new.to_json()))
    if distributed.is_first():
        print(
            f"mtl: {state.folder} goes on from iteration {done} to {iterations} (before: {before}) "
            f"with the learning rates of a run of {iterations}.",
            file=sys.stderr,
        )
