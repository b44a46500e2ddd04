"""Thresholds that a suite declares beforehand: what was reached, and whether it passes."""

from collections.abc import Mapping, Sequence
from typing import Any

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.learned import TUNED


def judge_thresholds(
    thresholds: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each threshold for each learned optimizer as it was saved.

    What is not there fails, and so does everything of an evaluation that lacks a task.
    """
    rows = []
    for name, facts in report["aggregates"].items():
        if name.endswith(TUNED):
            continue
        for threshold in thresholds:
            reached = measure_of(report, name, threshold)
            low, high = threshold.get("at_least"), threshold.get("at_most")
            complete = facts["tasks"] == facts["tasks_of_suite"]
            passed = complete and reached is not None
            if reached is not None:
                passed &= (low is None or reached >= low) and (high is None or reached <= high)
            row = {"reached": reached, "complete": complete, "passed": passed}
            rows.append({"optimizer": name, **threshold, **row})
    return rows


def measure_of(report: Mapping[str, Any], name: str, threshold: Mapping[str, Any]) -> float | None:
    """What a learned optimizer reached of a measure of `suite_file.MEASURES`."""
    aggregate = report["aggregates"][name]
    measure = threshold["measure"]
    if measure == "algoperf_score":
        found = report["algoperf"]["scores"].get(name)
    elif measure == "probability_of_improvement":
        found = aggregate.get(measure, {}).get(REFERENCE)
    elif measure == "profile_integral":
        found = aggregate.get("profile", {}).get("integral")
    elif measure.startswith("held_out_"):
        found = aggregate.get("held_out", {}).get(measure.removeprefix("held_out_"))
    else:
        found = aggregate.get(measure)
    return found[threshold.get("of", "value")] if isinstance(found, dict) else found
