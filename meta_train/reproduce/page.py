"""What experiments showed: for the terminal, and as one self-contained HTML page."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from meta_train.html_page import html_page

Report = Mapping[str, Any]
"""What the JSON file of an experiment holds; see `meta_train.reproduce.reports`."""

TITLE = "Experiments of the papers, reproduced"
STYLE = """
h2 { font-size: 1.15rem; margin: 2.5rem 0 0; }
.seen { color: #2a8f4a; white-space: nowrap; }
.unseen { color: #d1495b; white-space: nowrap; font-weight: bold; }
.source { margin: 0 0 .6rem; opacity: .85; }
img { max-width: 100%; background: #fff; border-radius: .3rem; }
.provenance { font-size: .85rem; opacity: .85; }
"""


def verdict(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many claims were seen, in words."""
    seen = sum(claim["seen"] for claim in claims)
    return f"{seen} of {len(claims)} claims seen"


def for_terminal(report: Report) -> str:
    """Every claim with whether it was seen, and the figures that say so."""
    lines = [f"{report['name']}: {verdict(report['claims'])}, {report['seconds']:.0f} s"]
    for claim in report["claims"]:
        lines += [f"  {_mark(claim):9s} {claim['text']}", f"            {claim['measured']}"]
    return "\n".join(lines)


def to_html(reports: Sequence[Report], pictures: Mapping[str, bytes]) -> str:
    """One page with everything in it: no script, no request to a network.

    Args:
      reports: in the order of the page.
      pictures: PNG by name of the experiment.
    """
    claims = [claim for report in reports for claim in report["claims"]]
    sections = [
        f"<h1>{TITLE}</h1>",
        f"<p>{verdict(claims)}.</p>",
        _overview(reports),
        *(_section(report, pictures[report["name"]]) for report in reports),
    ]
    return html_page(TITLE, "\n".join(sections), STYLE)


def _mark(claim: Mapping[str, Any]) -> str:
    return "seen" if claim["seen"] else "NOT SEEN"


def _effort(report: Report) -> str:
    effort = report["effort"]
    seeds = f"{effort['seeds']} seed{'' if effort['seeds'] == 1 else 's'}"
    return f"{'Fast' if effort['fast'] else 'Full'} form, {seeds}"


def _overview(reports: Sequence[Report]) -> str:
    rows = []
    for report in reports:
        kind = "seen" if all(claim["seen"] for claim in report["claims"]) else "unseen"
        name = html.escape(report["name"])
        rows.append(
            f'<tr><td><a href="#{name}">{html.escape(report["title"])}</a></td>'
            f'<td class="{kind}">{verdict(report["claims"])}</td>'
            f"<td>{_effort(report)}</td><td>{report['seconds']:.0f} s</td></tr>"
        )
    return (
        '<div class="scroll"><table><thead><tr><th>experiment</th><th>claims</th><th>effort</th>'
        f"<th>time</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _section(report: Report, picture: bytes) -> str:
    name, title = html.escape(report["name"], quote=True), html.escape(report["title"])
    data = base64.b64encode(picture).decode()
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report["notes"])
    return "\n".join(
        [
            f'<h2 id="{name}">{title}</h2>',
            f'<p class="source">{html.escape(report["source"])}. {_effort(report)}, '
            f"{report['seconds']:.0f} s.</p>",
            f'<p><img alt="figure of {title}" src="data:image/png;base64,{data}"></p>',
            _claims(report["claims"]),
            f'<ul class="notes">{notes}</ul>' if notes else "",
            _provenance(report),
        ]
    )


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td class="{"seen" if claim["seen"] else "unseen"}">{_mark(claim)}</td>'
        f"<td>{html.escape(claim['text'])}</td><td>{html.escape(claim['measured'])}</td></tr>"
        for claim in claims
    )
    return (
        '<div class="scroll"><table><thead><tr><th></th><th>claim</th><th>measured</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _provenance(report: Report) -> str:
    facts = report["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    said = (
        f"Python {facts['python']}, {versions}; revision {facts['git_revision']}; "
        f"{facts['machine']}, {', '.join(facts['devices'])}"
    )
    return (
        f'<p class="provenance"><code>{html.escape(facts["command"])}</code><br>'
        f"{html.escape(said)}</p>"
    )
