"""What an optimizer met in its meta-training, and where a task lies outside of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from learned_opt import OptimizerFormatError

AXES = ("domain", "architecture", "activation", "data", "batch_size")
"""What a task can lie outside meta-training in, beside its layers' widths, depth and horizon."""
FACTS = (*AXES, "widths")


class Envelope(NamedTuple):
    """What an optimizer has met: its tasks by `FACTS`, and the bounds of its horizons."""

    tasks: Sequence[Mapping[str, Any]]
    horizons: tuple[float, float]


def read_envelope(manifest: Mapping[str, Any]) -> Envelope:
    """The envelope in a manifest; of one that says nothing of it, an empty one.

    Raises:
      OptimizerFormatError: the manifest's ``meta_training`` cannot be read so.
    """
    met = manifest["meta_training"]
    tasks, horizons = met.get("tasks", []), met.get("horizons", (0, 0))
    if not (isinstance(tasks, list) and all(map(_is_task, tasks))):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.tasks`={tasks!r}: must be a list of objects with "
            f"{', '.join(FACTS)}, the last a list of numbers"
        )
    pair = isinstance(horizons, list | tuple) and len(horizons) == 2
    if not (pair and all(isinstance(steps, int | float) for steps in horizons)):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.horizons`={horizons!r}: must be two numbers of inner "
            "steps, the shortest and the longest"
        )
    return Envelope(tasks, tuple(horizons))


def _is_task(values: Any) -> bool:
    if not isinstance(values, dict):
        return False
    widths = values.get("widths") or []
    return isinstance(widths, list) and all(isinstance(width, int) for width in widths)


def check_meta_training(manifest: Mapping[str, Any]) -> None:
    """Raise OptimizerFormatError where a report could not be made of a manifest, before it is."""
    read_envelope(manifest)
    met = manifest["meta_training"]
    seconds = met.get("seconds")
    if not (seconds is None or (isinstance(seconds, int | float) and seconds >= 0)):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.seconds`={seconds!r}: must be a number of seconds"
        )
    processes = met.get("processes", [])
    if not (isinstance(processes, list) and all(isinstance(one, dict) for one in processes)):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.processes`={processes!r}: must be a list of objects"
        )
    validation = met.get("validation")
    if validation is not None and not _is_validation(validation):
        raise OptimizerFormatError(
            f"the manifest's `meta_training.validation`={validation!r}: must have `suite`, "
            "`best_update`, and as many `updates` as `scores`"
        )


def _is_validation(values: Any) -> bool:
    if not (isinstance(values, dict) and isinstance(values.get("best_update"), int)):
        return False
    if not isinstance(values.get("suite"), str):
        return False
    updates, scores = values.get("updates"), values.get("scores")
    if not (isinstance(updates, list) and isinstance(scores, list)):
        return False
    numbers = [*updates, *scores]
    return len(updates) == len(scores) > 0 and all(isinstance(x, int | float) for x in numbers)


def distribution_shifts(
    facts: Mapping[str, Any], steps: int, envelope: Envelope
) -> list[str] | None:
    """The axes on which a task lies outside what the optimizer was meta-trained on.

    None where its manifest does not say what that was.
    """
    if not envelope.tasks:
        return None
    met = {axis: [task.get(axis) for task in envelope.tasks] for axis in AXES}
    shifts = [axis for axis in AXES if facts[axis] not in met[axis]]
    layers = [task.get("widths") or [] for task in envelope.tasks]
    shifts += ["width"] * bool(set(facts["widths"]) - {width for own in layers for width in own})
    shifts += ["depth"] * (len(facts["widths"]) not in map(len, layers))
    low, high = envelope.horizons
    return shifts + ["horizon"] * (not low <= steps <= high)
