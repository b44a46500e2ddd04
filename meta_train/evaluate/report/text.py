"""The report as Markdown, in a terminal, and its final losses as CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.report.page import TITLE
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.tables import results, tables
from meta_train.evaluate.report.words import SPLITS, interval, use_lines, verdicts

WIDEST = 100  # characters of a terminal


def to_markdown(report: Mapping[str, Any]) -> str:
    """Verdict, tables and notes."""
    parts = [f"# {TITLE}", *verdicts(report)]
    parts += [f"To use it: `{line}`" for line in use_lines(report)]
    parts += [f"## {table.title}\n\n{markdown_table(table)}" for table in tables(report)]
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """As Markdown."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    )


def to_terminal(report: Mapping[str, Any]) -> str:
    """Final losses with the ratio of each learned optimizer, and the verdict."""
    table = results(report)
    learned = [c for c in report["contestants"] if c["learned"]]
    columns = [*table.columns, *(f"Adam ÷ {c['title']}" for c in learned)]
    rows = [
        [*cells, *(_ratio(row, contestant["name"]) for contestant in learned)]
        for cells, row in zip(table.rows, report["results"], strict=True)
    ]
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    kept = [0, *range(len(columns) - len(learned), len(columns))]
    room = WIDEST - sum(widths[i] + 2 for i in kept)
    for i in range(1, len(columns) - len(learned)):
        if room >= widths[i] + 2:
            kept.append(i)
            room -= widths[i] + 2
    kept.sort()
    lines = [
        "  ".join(row[i].ljust(widths[i]) for i in kept).rstrip()
        for row in (columns, ["-" * width for width in widths], *rows)
    ]
    return "\n".join([*lines, "", *verdicts(report)])


def _ratio(row: Mapping[str, Any], name: str) -> str:
    ours = row["learned"].get(name, {})
    return (
        f"{interval(ours.get('final_loss_ratio', {}).get(REFERENCE))} {ours.get('judgement', '')}"
    )


def to_csv(report: Mapping[str, Any]) -> str:
    """A line for each run that is scored, and for each contestant that is missing on a task."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    losses = [f"final_{split}_loss" for split in SPLITS]
    writer.writerow(["task", "optimizer", "chosen", "seed", *losses, "diverged"])
    for row in report["results"]:
        chosen = set(row["chosen"].values())
        for label, final in row["final"].items():
            for seed, own in enumerate(zip(*(final["runs"][s] for s in SPLITS), strict=True)):
                shown = ["" if loss is None else repr(loss) for loss in own]
                writer.writerow(
                    [row["task"], label, int(label in chosen), seed, *shown, int(own[0] is None)]
                )
    for row in report["missing"]:
        writer.writerow([row["task"], row["contestant"], "missing", *[""] * (2 + len(SPLITS))])
    return text.getvalue()
