"""The tables that every rendering of a report shares: text, and nothing of how it looks."""

from collections.abc import Mapping, Sequence
from typing import Any

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.learned import TUNED
from meta_train.evaluate.report.provenance import provenance
from meta_train.evaluate.report.sections import section_tables
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.words import (
    interval,
    loss,
    short,
    titles_of,
    titles_of_labels,
)

Row = Mapping[str, Any]


def tables(report: Row) -> list[Table]:
    """All of them, in the order of reading."""
    found = [
        results(report),
        *_comparisons(report),
        _overall(report),
        _over_tasks(report),
        _tasks(report),
        _splits(report),
        _ledger(report),
        *section_tables(report),
        _thresholds(report),
        _missing(report),
        provenance(report),
    ]
    return [table for table in found if table.rows]


def results(report: Row) -> Table:
    """Final test losses: tasks × everyone, each with the variant that tuning chose."""
    titles = titles_of(report)
    rows = []
    for row in report["results"]:
        cells = []
        for name in titles:
            label = row["chosen"].get(name)
            cells.append("missing" if label is None else loss(row["final"][label]))
        rows.append([row["task"], *cells])
    return Table("Final test loss", ["task @ steps", *titles.values()], rows)


def _comparisons(report: Row) -> list[Table]:
    """Of each learned optimizer: ratios, speed-up and verdict on every task."""
    others = [c for c in report["contestants"] if not c["learned"]]
    found = []
    for contestant in report["contestants"]:
        if not contestant["learned"]:
            continue
        rows = []
        for task, row in zip(report["tasks"], report["results"], strict=True):
            shifts = task["shifts"][contestant["name"].removesuffix(TUNED)]
            compared = _compared(row, contestant, others)
            rows.append(
                [
                    row["task"],
                    "unknown" if shifts is None else "; ".join(shifts) or "none",
                    *compared,
                ]
            )
        found.append(
            Table(
                f"{contestant['title']}, beside the baselines",
                ["task @ steps", "outside meta-training", "verdict", "speed-up over Adam",
                 "seeds won", *(f"{other['title']}'s loss ÷ ours" for other in others)],
                rows,
            )
        )  # fmt: skip
    return found


def _compared(row: Row, contestant: Row, others: Sequence[Row]) -> list[str]:
    ours = row["learned"].get(contestant["name"])
    if ours is None:
        return ["missing"] + ["–"] * (2 + len(others))
    censored = ours.get("speedups_censored", 0)
    return [
        ours.get("judgement", "–"),
        interval(ours.get("speedup")) + (f", {censored} not reached" if censored else ""),
        f"{ours['seeds_won']} of {row['seeds']}" if "seeds_won" in ours else "–",
        *(interval(ours["final_loss_ratio"].get(other["name"])) for other in others),
    ]


def _overall(report: Row) -> Table:
    titles = titles_of(report)
    rows = []
    for name, facts in report["aggregates"].items():
        held = facts.get("held_out", {})
        improvement = facts.get("probability_of_improvement", {})
        rows.append(
            [
                titles[name],
                interval(facts.get("final_loss_ratio_iqm")),
                interval(facts.get("best_variant", {}).get("final_loss_ratio_iqm")),
                interval(facts.get("speedup_iqm")),
                f"{facts.get('wins', 0)} / {facts.get('ties', 0)} / {facts.get('losses', 0)}",
                interval(report["algoperf"]["scores"].get(name)),
                interval(improvement.get(REFERENCE)),
                interval(facts.get("profile", {}).get("integral")),
                interval(held.get("final_loss_ratio_iqm")),
                interval(held.get("speedup_iqm")),
                f"{facts['tasks']} of {facts['tasks_of_suite']}",
                str(facts["diverged_runs"]),
                str(facts["missing_runs"]),
            ]
        )
    for name, score in report["algoperf"]["scores"].items():
        if name not in report["aggregates"]:
            rows.append([titles[name], *["–"] * 4, interval(score), *["–"] * 7])
    return Table(
        "Over all tasks (IQM)",
        ["optimizer", "Adam's loss ÷ ours", "with Adam's schedule of the scored seeds",
         "speed-up over Adam", "wins / ties / losses", "AlgoPerf score", "P(better than Adam)",
         "integral of the profile", "Adam's loss ÷ ours, held out", "speed-up, held out", "tasks",
         "diverged runs", "missing runs"],
        rows,
    )  # fmt: skip


def _over_tasks(report: Row) -> Table:
    """Intervals that speak of tasks like these; none of few tasks."""
    titles = titles_of(report)
    scores = report["algoperf"].get("scores_over_tasks", {})
    return Table(
        "Over tasks like these (tasks are resampled too)",
        ["optimizer", "Adam's loss ÷ ours", "speed-up over Adam", "AlgoPerf score",
         "P(better than Adam)", "integral of the profile", "Adam's loss ÷ ours, held out",
         "speed-up, held out"],
        [
            [
                titles[name],
                interval(facts["final_loss_ratio_iqm_over_tasks"]),
                interval(facts["speedup_iqm_over_tasks"]),
                interval(scores.get(name)),
                interval(facts["probability_of_improvement_over_tasks"]),
                interval(facts["profile"]["integral_over_tasks"]),
                interval(facts.get("held_out", {}).get("final_loss_ratio_iqm_over_tasks")),
                interval(facts.get("held_out", {}).get("speedup_iqm_over_tasks")),
            ]
            for name, facts in report["aggregates"].items()
            if facts.get("final_loss_ratio_iqm_over_tasks")
        ],
    )  # fmt: skip


def _tasks(report: Row) -> Table:
    return Table(
        "Tasks",
        ["task @ steps", "domain", "architecture", "activation", "widths", "parameters", "data",
         "batch", "seeds"],
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
    )  # fmt: skip


def _splits(report: Row) -> Table:
    """Every label's losses on all splits, its best on the way and its worst seed."""
    titles = titles_of_labels(report)
    return Table(
        "Losses at the end, on every split",
        ["task @ steps", "optimizer", "chosen by tuning", "test", "outer validation", "train",
         "best test on the way", "worst seed", "its test loss", "diverged"],
        [
            [
                row["task"],
                titles[label],
                "yes" if label in row["chosen"].values() else "no",
                loss(final),
                short(final["outer_validation"]),
                short(final["train"]),
                short(final["best_test"]),
                str(final["worst_seed"]),
                short(final["worst_test"]),
                str(final["diverged"]),
            ]
            for row in report["results"]
            for label, final in row["final"].items()
        ],
    )  # fmt: skip


def _ledger(report: Row) -> Table:
    titles = titles_of(report)
    return Table(
        "Tuning",
        ["task @ steps", "optimizer", "rates tried", "trials", "tuning seeds", "inner steps",
         "best rates", "chosen", "best on the grid's edge"],
        [
            [
                row["task"],
                titles[row["contestant"]],
                f"{len(row['rates'])}: {row['rates'][0]:.1e} … {row['rates'][-1]:.1e}",
                str(row["trials"]),
                str(len(row["tuning_seeds"])),
                f"{row['inner_steps']:,}",
                ", ".join(f"{v} {best['learning_rate']:.2e}" for v, best in row["best"].items()),
                row["chosen"],
                ", ".join(row["on_edge"]) or "no",
            ]
            for row in report["ledger"]
        ],
    )  # fmt: skip


def _thresholds(report: Row) -> Table:
    return Table(
        "Thresholds declared beforehand",
        ["optimizer", "measure", "of", "at least", "at most", "reached", "passed"],
        [
            [
                row["optimizer"],
                row["measure"],
                row.get("of", "value"),
                short(row.get("at_least")),
                short(row.get("at_most")),
                short(row["reached"]),
                "yes" if row["passed"] else "NO" if row["complete"] else "NO, incomplete",
            ]
            for row in report["thresholds"]
        ],
    )


def _missing(report: Row) -> Table:
    return Table(
        "Missing",
        ["task @ steps", "optimizer", "what"],
        [[row["task"], row["contestant"], row["what"]] for row in report["missing"]],
    )
