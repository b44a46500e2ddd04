"""The report in words: the verdict and the tables that every rendering shares."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from meta_train.evaluate.baselines import SCHEDULES
from meta_train.evaluate.scoring import LEARNED, REFERENCE


class Table(NamedTuple):
    """A titled table of text; every row has one cell a column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def verdict(report: Mapping[str, Any]) -> str:
    """The first thing to read: better or worse than tuned Adam, where, and how surely."""
    rows = report["aggregates"]["tasks"]
    sentences = []
    for row in rows:
        if not row["shifts"]:
            ratio = row["final_loss_ratio"][REFERENCE]
            diverged = row["final_test"][LEARNED]["diverged"]
            sentences.append(
                f"On {row['task']} steps, as it was meta-trained: {judgement(ratio)} tuned Adam, "
                + (
                    f"for it diverged on {diverged} of {row['seeds']} seeds."
                    if diverged
                    else f"whose final test loss is {interval(ratio)} times the learned "
                    f"optimizer's ({row['seeds']} seeds)."
                )
            )
    found = [judgement(r["final_loss_ratio"][REFERENCE]) for r in rows if r["shifts"]]
    if found:
        counts = ", ".join(
            f"{kind} it on {found.count(kind)}"
            for kind in ("better than", "not distinguishable from", "worse than")
            if kind in found
        )
        ratio = report["aggregates"]["held_out"]["final_loss_ratio_iqm"]
        sentences.append(
            f"Outside its meta-training ({len(found)} task{'s' * (len(found) > 1)}): {counts}; "
            f"the ratio over all of them is {interval(ratio)}."
        )
    return " ".join(sentences)


def judgement(ratio: Mapping[str, float]) -> str:
    """What an interval of the final-loss ratio says."""
    if ratio["low"] > 1:
        return "better than"
    return "worse than" if ratio["high"] < 1 else "not distinguishable from"


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Results, tasks, the tuning ledger and provenance."""
    return [_results(report), _tasks(report), _ledger(report), _provenance(report)]


def _results(report: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["task"],
            "; ".join(row["shifts"]) or "none",
            _loss(row["final_test"][LEARNED]),
            *(_loss(row["final_test"][f"adam/{s}"]) for s in SCHEDULES),
            *(_loss(row["final_test"][f"sgd_momentum/{s}"]) for s in SCHEDULES),
            _judged(row["final_loss_ratio"][REFERENCE]),
            interval(row["speedup"])
            + (f", {row['speedups_censored']} not reached" if row["speedups_censored"] else ""),
            f"{row['wins']} of {row['seeds']}",
        ]
        for row in report["aggregates"]["tasks"]
    ]
    overall = report["aggregates"]
    rows.append(
        [
            "all tasks (IQM)",
            *("" for _ in range(6)),
            interval(overall["final_loss_ratio_iqm"]),
            interval(overall["speedup_iqm"]),
            "",
        ]
    )
    return Table(
        "Final test loss",
        [
            "task @ steps",
            "outside meta-training",
            "learned",
            *(f"Adam {s}" for s in SCHEDULES),
            *(f"SGD+momentum {s}" for s in SCHEDULES),
            "ratio to tuned Adam",
            "speed-up over Adam",
            "seeds won",
        ],
        rows,
    )


def _tasks(report: Mapping[str, Any]) -> Table:
    return Table(
        "Tasks",
        [
            "task @ steps",
            "domain",
            "architecture",
            "activation",
            "widths",
            "parameters",
            "data",
            "batch",
            "seeds",
        ],
        [
            [
                row["task"],
                row["domain"],
                row["architecture"],
                row["activation"],
                "-".join(map(str, row["widths"])) or "none",
                f"{row['parameters']:,}",
                row["data"],
                str(row["batch_size"]),
                str(len(row["seeds"])),
            ]
            for row in report["tasks"]
        ],
    )


def _ledger(report: Mapping[str, Any]) -> Table:
    return Table(
        "Tuning of the baselines",
        [
            "task @ steps",
            "baseline",
            "rates tried",
            "trials",
            "tuning seeds",
            "inner steps",
            *(f"best {s} rate" for s in SCHEDULES),
            "chosen",
            "best on the grid's edge",
        ],
        [
            [
                row["task"],
                row["baseline"],
                f"{len(row['rates'])}: {row['rates'][0]:.1e} … {row['rates'][-1]:.1e}",
                str(row["trials"]),
                str(len(row["tuning_seeds"])),
                f"{row['inner_steps']:,}",
                *(f"{row['best'][s]['learning_rate']:.2e}" for s in SCHEDULES),
                row["chosen"],
                "yes" if row["on_edge"] else "no",
            ]
            for row in report["baselines"]
        ],
    )


def _provenance(report: Mapping[str, Any]) -> Table:
    source = report["provenance"]
    optimizer, evaluation = source["optimizer"], source["evaluation"]
    met = optimizer["meta_training"]
    facts = {
        "optimizer": optimizer["source"],
        "rule": f"{optimizer['rule']} {optimizer['constants']}",
        "SHA-256 of the manifest": optimizer["manifest_sha256"],
        "meta-trained on": ", ".join(task["name"] for task in met.get("tasks", [])) or "unknown",
        "its horizons": " to ".join(map(str, met.get("horizons", []))) or "unknown",
        "its updates": f"{met.get('updates', 'unknown')}",
        "its inner steps": f"{met.get('inner_steps', 'unknown')}",
        "its windows of pairs with a loss that was not finite": (
            f"{met.get('diverged_windows', 'unknown')}"
        ),
        "its updates skipped, for a gradient that exploded": (
            f"{met.get('skipped_updates', 'unknown')}"
        ),
        "its seconds": f"{met.get('seconds', 'unknown')}",
        "its seed": f"{met.get('seed', 'unknown')}",
        "suite": source["suite"],
        "evaluated": source["evaluated"],
        "code revision": evaluation["git_revision"] or "not a checkout",
        "machine": f"{evaluation['machine']}; {', '.join(evaluation['devices'])}",
        "versions": ", ".join(f"{k} {v}" for k, v in evaluation["versions"].items()),
    }
    return Table("Provenance", ["", ""], [[name, str(value)] for name, value in facts.items()])


def interval(estimate: Mapping[str, float]) -> str:
    """``value [low, high]``."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _judged(ratio: Mapping[str, float]) -> str:
    words = {"better than": "better", "worse than": "worse"}
    return f"{interval(ratio)} {words.get(judgement(ratio), '')}".rstrip()


def _loss(final: Mapping[str, Any]) -> str:
    if final["diverged"]:
        return f"{final['diverged']} diverged"
    return f"{final['value']:.4g} ± {(final['high'] - final['low']) / 2:.2g}"
