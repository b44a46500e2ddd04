"""The files of a report, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meta_train.evaluate.report.page import to_html
from meta_train.evaluate.report.text import to_csv, to_markdown, to_terminal
from meta_train.evaluate.running import FAILED
from meta_train.files import write_json, write_text

FAILED_THRESHOLDS = 3
FAILED_RUNS = 4


def write_report(workdir: Path, report: Mapping[str, Any]) -> int:
    """Write and show it.

    Returns:
      the exit status: 0; or `FAILED_THRESHOLDS`; or, where all are reached but someone could not be
      trained, `FAILED_RUNS`.
    """
    write_json(workdir / "report.json", report)
    write_text(workdir / "report.md", to_markdown(report))
    write_text(workdir / "report.html", to_html(report))
    write_text(workdir / "report.csv", to_csv(report))
    print(f"\n{to_terminal(report)}\n")
    print("\n".join(str(workdir / f"report.{kind}") for kind in ("html", "md", "json", "csv")))
    if not all(row["passed"] for row in report["thresholds"]):
        return FAILED_THRESHOLDS
    return FAILED_RUNS if any(FAILED in row["what"] for row in report["missing"]) else 0
