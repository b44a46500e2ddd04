"""Two reports side by side: what changed, on the tasks and seeds that both have."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meta_train.config import ConfigError
from meta_train.evaluate.report.page import html_table, page_of
from meta_train.evaluate.report.rows import estimate_of, estimate_row, estimated
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.text import markdown_table
from meta_train.evaluate.report.words import interval, loss
from meta_train.evaluate.request import FORMAT
from meta_train.evaluate.scores import diverged_alone, ratios_of_losses
from meta_train.evaluate.statistics import judge
from meta_train.files import write_json, write_text

TITLE = "Comparison of two evaluations"
NAME = "comparison"
Row = Mapping[str, Any]


def compare_directories(workdir: Path, other: Path) -> int:
    """Write comparison.html, .md and .json into ``workdir``, and show the overall table.

    Raises:
      ConfigError: a report is not there, or they have no task in common.
    """
    compared = compare(read_report(workdir), read_report(other))
    compared |= {"ours": str(workdir), "theirs": str(other)}
    tables = [_overall(compared), _by_task(compared)]
    heading = f"{workdir} against {other}. {' '.join(differences_in_words(compared))}".strip()
    body = [f"<h1>{TITLE}</h1><p>{html.escape(heading)}</p>", *map(html_table, tables)]
    page = page_of(TITLE, body)
    parts = [f"## {table.title}\n\n{markdown_table(table)}" for table in tables]
    write_json(workdir / f"{NAME}.json", compared)
    write_text(workdir / f"{NAME}.html", page)
    write_text(workdir / f"{NAME}.md", "\n\n".join([f"# {TITLE}", heading, *parts]) + "\n")
    print(markdown_table(tables[0]))
    print("\n".join(str(workdir / f"{NAME}.{kind}") for kind in ("html", "md", "json")))
    return 0


def read_report(workdir: Path) -> dict[str, Any]:
    """The report.json of a directory.

    Raises:
      ConfigError: it is not there, damaged, or of another format.
    """
    path = workdir / "report.json"
    try:
        report = json.loads(path.read_text())
        if report["format"] != FORMAT:
            raise ValueError(f"its format is {report['format']}, not {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"no report can be read from {str(path)!r} ({error}); make it by `python -m "
            "meta_train.evaluate` or `python -m meta_train.report`"
        ) from None
    return report


def compare(ours: Row, theirs: Row) -> dict[str, Any]:
    """JSON values: ratios of their final losses to ours, on the seeds that both have.

    Contestants of one name are compared; where no learned optimizer has a name in both, the first
    of each are.
    """
    pairs = _pairs(ours, theirs)
    tasks = [row["task"] for row in ours["results"] if row["task"] in _by_name(theirs)]
    if not tasks:
        raise ConfigError("the two evaluations have no task with the same steps in common")
    rows = []
    ratios: dict[str, list[np.ndarray]] = {}
    for task in tasks:
        for mine, other in pairs:
            a, b = _final(ours, task, mine), _final(theirs, task, other)
            row = {"task": task, "ours": mine, "theirs": other, "final": [a, b]}
            if a and b:
                values = _ratios(a["runs"]["test"], b["runs"]["test"])
                ratios.setdefault(mine, []).append(values)
                found = estimated([values])
                verdict = judge(found, len(values), diverged_alone(values))
                row |= {"ratio": estimate_row(found), "verdict": str(verdict)}
            rows.append(row)
    overall = [
        {
            "ours": mine,
            "theirs": other,
            "tasks": len(ratios[mine]),
            "ratio": estimate_of(ratios[mine]),
        }
        for mine, other in pairs
        if mine in ratios
    ]
    return {**_differences(ours, theirs, tasks), "overall": overall, "tasks": rows}


def _differences(ours: Row, theirs: Row, tasks: Sequence[str]) -> dict[str, Any]:
    """What else than the optimizers is not the same in both."""
    both = ours, theirs
    sources = [report["provenance"]["sources_sha256"] for report in both]
    versions = [report["provenance"]["evaluation"]["versions"] for report in both]
    data = [{row["task"]: row["data_sha256"] for row in report["tasks"]} for report in both]
    names = [[row["task"] for row in report["results"]] for report in both]
    return {
        "same_sources": sources[0] == sources[1],
        "same_versions": versions[0] == versions[1],
        "other_data": [task for task in tasks if data[0][task] != data[1][task]],
        "only_ours": [name for name in names[0] if name not in names[1]],
        "only_theirs": [name for name in names[1] if name not in names[0]],
    }


def differences_in_words(compared: Row) -> list[str]:
    """What a reader of a comparison has to be told first."""
    told = []
    if not compared["same_sources"]:
        told.append("Their code differs: runs with one seed may not be pairs.")
    if not compared["same_versions"]:
        told.append("The versions of their libraries differ.")
    if compared["other_data"]:
        told.append(f"Data are not the same of: {', '.join(compared['other_data'])}.")
    for name, said in (("only_ours", "the first"), ("only_theirs", "the second")):
        if compared[name]:
            told.append(f"Only in {said}: {', '.join(compared[name])}.")
    return told


def _pairs(ours: Row, theirs: Row) -> list[tuple[str, str]]:
    mine = {c["name"]: c["learned"] for c in ours["contestants"]}
    other = {c["name"]: c["learned"] for c in theirs["contestants"]}
    pairs = [(name, name) for name in mine if name in other]
    if not any(mine[name] for name, _ in pairs):
        first = [next((n for n, learned in c.items() if learned), None) for c in (mine, other)]
        if first[0] and first[1]:
            pairs.insert(0, (first[0], first[1]))
    return pairs


def _by_name(report: Row) -> dict[str, Row]:
    return {row["task"]: row for row in report["results"]}


def _final(report: Row, task: str, contestant: str) -> Row | None:
    row = _by_name(report)[task]
    label = row["chosen"].get(contestant)
    return row["final"].get(label)


def _ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> np.ndarray:
    """Their loss ÷ ours on the seeds of both; theirs counts as twice ours where it diverged."""
    pairs = list(zip(ours, theirs, strict=False))
    mine, other = np.asarray(pairs, float).T
    return ratios_of_losses(mine, other, 2 * mine)


def _overall(compared: Row) -> Table:
    return Table(
        "Over all tasks of both",
        ["ours", "theirs", "tasks", "their loss ÷ ours"],
        [
            [row["ours"], row["theirs"], str(row["tasks"]), interval(row["ratio"])]
            for row in compared["overall"]
        ],
    )


def _by_task(compared: Row) -> Table:
    return Table(
        "By task",
        ["task @ steps", "ours", "final test loss", "theirs", "final test loss", "theirs ÷ ours",
         "verdict"],
        [
            [
                row["task"],
                row["ours"],
                loss(row["final"][0]) if row["final"][0] else "missing",
                row["theirs"],
                loss(row["final"][1]) if row["final"][1] else "missing",
                interval(row.get("ratio")),
                row.get("verdict", "–"),
            ]
            for row in compared["tasks"]
        ],
    )  # fmt: skip
