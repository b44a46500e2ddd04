"""The report as Markdown, in a terminal, and its final losses as CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.report.page import TITLE
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.tables import results, tables
from meta_train.evaluate.report.words import (
    SPLITS,
    interval,
    short,
    titles_of,
    use_lines,
    verdicts,
)

WIDEST = 100  # characters of a terminal


def to_markdown(report: Mapping[str, Any]) -> str:
    """Verdict, tables, what the page draws in numbers, links to the raw runs, and notes."""
    parts = [f"# {TITLE}", *verdicts(report)]
    parts += [f"To use it: `{line}`" for line in use_lines(report)]
    shown = [*tables(report), *_drawn(report)]
    parts += [f"## {table.title}\n\n{markdown_table(table)}" for table in shown if table.rows]
    parts.append("## Raw runs\n\n" + "\n".join(_links(report)))
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts) + "\n"


def _drawn(report: Mapping[str, Any]) -> list[Table]:
    """What is a figure on the page; the curves are in report.json."""
    titles = titles_of(report)
    profiles = {n: a["profile"] for n, a in report["aggregates"].items() if "profile" in a}
    shares = [
        [f"{tau:g}", *(short(own["shares"][i], 3) for own in profiles.values())]
        for i, tau in enumerate(next(iter(profiles.values()))["ratios"] if profiles else ())
        if i % 4 == 0
    ]
    found = [
        Table(
            "Performance profile: share of runs with Adam's loss ÷ ours above τ",
            ["τ", *(titles[name] for name in profiles)],
            shares,
        )
    ]
    for name, facts in report["provenance"]["optimizers"].items():
        if validation := facts["meta_training"].get("validation"):
            scores = zip(validation["updates"], validation["scores"], strict=True)
            rows = [[f"{update:,}", short(score)] for update, score in scores]
            title = f"{name}: validated on {validation['suite']}, lower is better"
            found.append(Table(title, ["update", "score"], rows))
    for behaviour in report["behaviour"] or []:
        if path := behaviour.get("trajectory"):
            columns = [path[c] for c in ("steps", "rms", "adam_rms", "cosine", "distance")]
            rows = [[short(x) for x in row] for row in zip(*columns, strict=True)]
            title = f"What {behaviour['optimizer']} does on {behaviour['task']}"
            heads = ["inner steps", "RMS of its update", "of Adam's", "cosine", "distance ÷ Adam's"]
            found.append(Table(title, heads, rows))
            found.append(_response(behaviour))
    return found


def _response(behaviour: Mapping[str, Any]) -> Table:
    answer = behaviour["response"]
    kinds = [(who, of) for of in ("gradient", "momentum") for who in ("ours", "adam")]
    columns = [answer["grid"], *(answer[who][of] for who, of in kinds)]
    return Table(
        f"The update of {behaviour['optimizer']} ÷ its RMS against g and m",
        ["g or m", "its own against g", "Adam's", "its own against m", "Adam's"],
        [[short(x, 3) for x in row] for row in list(zip(*columns, strict=True))[::16]],
    )


def _links(report: Mapping[str, Any]) -> list[str]:
    return [
        f"- {task}: " + ", ".join(f"[{path.split('/', 2)[-1]}]({path})" for path in files)
        for task, files in report["raw"].items()
    ]


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
    there = {row["task"]: row["chosen"] for row in report["results"]}
    names = {contestant["name"] for contestant in report["contestants"]}
    for row in report["missing"]:
        if row["contestant"] not in names - there[row["task"]].keys():
            continue  # a section of the report
        writer.writerow([row["task"], row["contestant"], "missing", *[""] * (2 + len(SPLITS))])
    return text.getvalue()
