"""The report as Markdown and as one self-contained HTML page."""

import base64
import html
import re
from collections.abc import Mapping
from typing import Any

from meta_train.evaluate.plots import loss_curves
from meta_train.evaluate.summary import Table, tables, verdict
from meta_train.html_page import html_page

TITLE = "Evaluation of a learned optimizer"
STYLE = """
h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-size: 1.1rem; border-left: .3rem solid #d1495b; padding: .2rem 0 .2rem .8rem; }
td { min-width: 3.5rem; }
.whole { white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
.curves { display: grid; gap: .8rem; }
.curves { grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.curves img { width: 100%; background: #fff; border-radius: .3rem; }
"""


def use_line(report: Mapping[str, Any]) -> str:
    """The line of code that uses the optimizer elsewhere."""
    return f"tx = learned_opt.load({report['provenance']['optimizer']['source']!r})"


def to_markdown(report: Mapping[str, Any]) -> str:
    """Verdict, tables and notes."""
    parts = [f"# {TITLE}", verdict(report), f"To use it: `{use_line(report)}`"]
    parts += [f"## {table.title}\n\n{_markdown_table(table)}" for table in tables(report)]
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts) + "\n"


def results_for_terminal(report: Mapping[str, Any]) -> str:
    """The verdict and the results, in columns for a terminal of 100 characters."""
    results = tables(report)[0]
    kept = [results.columns.index(name) for name in results.columns if not name.startswith("SGD")]
    kept.remove(results.columns.index("outside meta-training"))
    rows = [[row[i] for i in kept] for row in (results.columns, *results.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(kept))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", verdict(report)])


def to_html(report: Mapping[str, Any]) -> str:
    """One page with everything in it: no script, no request to a network."""
    results, *others = tables(report)
    curves = "\n".join(_figure(row["task"], report) for row in report["tasks"])
    sections = [
        f"<h1>{TITLE}</h1>",
        f'<p class="verdict">{html.escape(verdict(report))}</p>',
        f"<p>To use it: <code>{html.escape(use_line(report))}</code></p>",
        _html_table(results),
        "<h2>Test loss, mean over seeds with its 95 % interval</h2>",
        f'<div class="curves">{curves}</div>',
        *(_html_table(table) for table in others),
        '<h2>Notes</h2><ul class="notes">'
        + "".join(f"<li>{html.escape(note)}</li>" for note in report["notes"])
        + "</ul>",
    ]
    return html_page(TITLE, "\n".join(sections), STYLE)


def _figure(task: str, report: Mapping[str, Any]) -> str:
    svg = loss_curves(task, [run for run in report["runs"] if run["task"] == task])
    data = base64.b64encode(svg.encode()).decode()
    alternative = html.escape(f"test loss over training on {task} steps", quote=True)
    return f'<img alt="{alternative}" src="data:image/svg+xml;base64,{data}">'


def _markdown_table(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    )


def _breakable(cell: str) -> str:
    """Long names may break after an underscore; an interval, or ± and its number, may not."""
    escaped = html.escape(cell).replace("_", "_<wbr>")
    return re.sub(r"\[.*?\]|± \S+", lambda found: f'<span class="whole">{found[0]}</span>', escaped)


def _html_table(table: Table) -> str:
    def cells(row: Any, tag: str) -> str:
        return "".join(f"<{tag}>{_breakable(cell)}</{tag}>" for cell in row)

    kind = "" if any(table.columns) else ' class="facts"'
    head = f"<thead><tr>{cells(table.columns, 'th')}</tr></thead>" if any(table.columns) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="scroll"><table{kind}>{head}'
        f"<tbody>{body}</tbody></table></div>"
    )
