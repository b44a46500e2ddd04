"""The report as one self-contained HTML page: no request to a network."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from meta_train.evaluate.report import figures
from meta_train.evaluate.report.sections import section_figures
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.tables import tables
from meta_train.evaluate.report.words import SPLITS, titles_of_labels, use_lines, verdicts
from meta_train.html_page import html_page

TITLE = "Evaluation of learned optimizers"
HERE = Path(__file__).parent
BAD = re.compile(r"diverged$|^missing$|^NO\b|^loss$")
INTERVAL = re.compile(r"\[[-–\d.e+]+, [-–\d.e+]+\]|± \S+")


def to_html(report: Mapping[str, Any]) -> str:
    """Verdict, results, curves, and everything else that a sceptic asks for."""
    first, *others = tables(report)
    sections = [
        f"<h1>{TITLE}</h1>",
        *(f'<p class="verdict">{html.escape(said)}</p>' for said in verdicts(report)),
        *(f"<p>To use it: <code>{html.escape(line)}</code></p>" for line in use_lines(report)),
        html_table(first),
        "<h2>Test loss, mean over seeds with its 95 % interval</h2>",
        _legend(report),
        *_curves(report),
        "<h2>Performance profile</h2>",
        f'<div class="curves">{figures.profiles(report)}</div>',
        *section_figures(report),
        *map(html_table, others),
        _raw_files(report),
        f'<h2>Notes</h2><ul class="notes">{_items(report["notes"])}</ul>',
    ]
    return page_of(TITLE, sections)


def page_of(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, with the style and the script of reports in it."""
    script = f"<script>{(HERE / 'page.js').read_text()}</script>"
    return html_page(title, "\n".join([*parts, script]), (HERE / "page.css").read_text())


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(text)}</li>" for text in texts)


def _legend(report: Mapping[str, Any]) -> str:
    """A button for each label, which hides and shows its curves on all tasks."""
    titles = titles_of_labels(report)
    buttons = [
        f'<button type="button" aria-pressed="true" data-line="line-{i}">'
        f'<i class="{"dashed" if line == "--" else "solid"}" style="border-color: {colour}"></i> '
        f"{html.escape(titles[label])}</button>"
        for i, (label, (colour, line)) in enumerate(
            figures.line_styles(report["contestants"]).items()
        )
    ]
    return f'<div class="legend">{"".join(buttons)}</div>'


def _curves(report: Mapping[str, Any]) -> list[str]:
    """Of every task, those of the scored split in sight and the others folded away."""
    drawn = {
        split: "".join(figures.loss_curves(task["task"], split, report) for task in report["tasks"])
        for split in SPLITS
    }
    scored = f'<div class="curves">{drawn.pop("test")}</div>'
    return [scored] + [
        f"<details><summary>The same of the {SPLITS[split]}</summary>"
        f'<div class="curves">{of_split}</div></details>'
        for split, of_split in drawn.items()
    ]


def _raw_files(report: Mapping[str, Any]) -> str:
    """Links to the raw runs that the page was made of."""
    parts = []
    for task, paths in report["raw"].items():
        links = [f'<a href="{quote(p)}">{html.escape(p.split("/", 2)[-1])}</a>' for p in paths]
        parts.append(
            f"<details><summary>{html.escape(task)}</summary>{' · '.join(links)}</details>"
        )
    return f"<h2>Raw runs</h2>{''.join(parts)}"


def html_table(table: Table) -> str:
    """Sortable by its heads, in a box of its own that scrolls."""
    kind = "" if any(table.columns) else ' class="facts"'
    heads = "".join(f'<th><button type="button">{_shown(c)}</button></th>' for c in table.columns)
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.columns) else ""
    body = "".join(
        f"<tr>{''.join(_cell(table, i, j, cell) for j, cell in enumerate(row))}</tr>"
        for i, row in enumerate(table.rows)
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="scroll"><table{kind}>{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(table: Table, row: int, column: int, text: str) -> str:
    look = ' class="bad"' if BAD.search(text) else ""
    if (row, column) in table.heat:
        heat = max(-1.0, min(1.0, table.heat[row, column]))
        hue = 150 if heat > 0 else 0
        look += f' style="background: hsl({hue} 60% 50% / {abs(heat) * 0.6:.2f})"'
    return f"<td{look}>{_shown(text)}</td>"


def _shown(text: str) -> str:
    """Long names may break after an underscore; an interval, or ± and its number, may not."""
    escaped = html.escape(text).replace("_", "_<wbr>")
    return re.sub(INTERVAL, lambda found: f'<span class="whole">{found[0]}</span>', escaped)
