"""From what was measured to the report as data: JSON values, and nothing drawn yet."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.report.aggregates import aggregate_learned, algoperf_scores
from meta_train.evaluate.report.envelope import distribution_shifts, read_envelope
from meta_train.evaluate.report.notes import NOTES
from meta_train.evaluate.report.rows import curve_rows, result_row
from meta_train.evaluate.report.thresholds import judge_thresholds
from meta_train.evaluate.request import FORMAT, Request


class Extras(NamedTuple):
    """The sections that are not of training runs alone, each None where it was not asked for;
    what is missing of them, and the files of a task that they came from.
    """

    cost: Any = None
    sensitivity: Any = None
    behaviour: Any = None
    missing: Sequence[Mapping[str, str]] = ()
    files: Mapping[str, Sequence[str]] = MappingProxyType({})


NO_EXTRAS = Extras()


def make_report(
    request: Request,
    contestants: Sequence[Contestant],
    results: Mapping[str, TaskResult],
    files: Mapping[str, Sequence[str]],
    made: Mapping[str, Any],
    extras: Extras = NO_EXTRAS,
) -> dict[str, Any]:
    """The report.

    Args:
      request: what was asked for.
      contestants: of the request, in its order.
      results: of every task, by its name.
      files: {task: raw files}.
      made: when, where and by which versions.
      extras: other sections.
    """
    tasks = _tasks(request)
    ordered = [results[task.name] for task in request.tasks]
    rows = [
        result_row(task, result, contestants) for task, result in zip(tasks, ordered, strict=True)
    ]
    report: dict[str, Any] = {
        "format": FORMAT,
        "notes": list(NOTES),
        "provenance": _provenance(request, made),
        "contestants": [_contestant(contestant) for contestant in contestants],
        "tasks": tasks,
        "results": rows,
        "aggregates": {
            contestant.name: aggregate_learned(contestant.name, tasks, ordered, rows)
            for contestant in contestants
            if contestant.learned
        },
        "algoperf": algoperf_scores([c.name for c in contestants], tasks, ordered),
        "ledger": [
            {"task": task["task"], **tuned.ledger}
            for task, result in zip(tasks, ordered, strict=True)
            for tuned in result.tuned.values()
        ],
        "curves": [
            row
            for task, result in zip(tasks, ordered, strict=True)
            for row in curve_rows(task["task"], result)
        ],
        "cost": extras.cost,
        "sensitivity": extras.sensitivity,
        "behaviour": extras.behaviour,
        "missing": [
            {"task": task["task"], "contestant": name, "what": what}
            for task, result in zip(tasks, ordered, strict=True)
            for name, what in result.missing.items()
        ]
        + [dict(row) for row in extras.missing],
        "raw": {
            name: list(dict.fromkeys([*files.get(name, ()), *extras.files.get(name, ())]))
            for name in (task["task"] for task in tasks)
        },
    }
    return report | {"thresholds": judge_thresholds(request.thresholds, report)}


def _tasks(request: Request) -> list[dict[str, Any]]:
    envelopes = {n: read_envelope(o["manifest"]) for n, o in request.optimizers.items()}
    return [
        {
            "task": task.name,
            "family": task.family,
            "steps": task.steps,
            "seeds": list(range(task.seeds)),
            **task.facts,
            "data_sha256": task.basis.get("data"),
            "shifts": {
                name: distribution_shifts(task.facts, task.steps, envelope)
                for name, envelope in envelopes.items()
            },
        }
        for task in request.tasks
    ]


def _provenance(request: Request, made: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "optimizers": {
            name: {
                "source": facts["source"],
                "rule": facts["manifest"]["rule"],
                "constants": facts["manifest"]["constants"],
                "manifest_sha256": facts["manifest"]["sha256"],
                "meta_training": facts["manifest"]["meta_training"],
            }
            for name, facts in request.optimizers.items()
        },
        "suite": request.suite,
        "sources_sha256": request.tasks[0].basis["sources"],
        "evaluation": dict(made),
    }


def _contestant(contestant: Contestant) -> dict[str, Any]:
    return {
        "name": contestant.name,
        "title": contestant.title,
        "learned": contestant.learned,
        "labels": [contestant.label(v) for v in contestant.variants] or [contestant.name],
    }
