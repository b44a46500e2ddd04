"""Figures of a report as SVG in a page: text stays text, colours follow the page, lines can be
hidden by their class ``line-N``, N the place of their label in the report.
"""

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from meta_train.evaluate.report.words import SPLITS, titles_of_labels

INK = "#010203"  # of text and axes; the page's own colour takes its place
COLOURS = (
    "#d1495b", "#30638e", "#e09f3e", "#4f772d", "#8e6bbf", "#00798c", "#8d6e63", "#c2185b",
    "#5c7cfa", "#607d8b",
)  # fmt: skip
MARGINS = {"left": 0.15, "right": 0.98, "bottom": 0.15, "top": 0.91}
LOGARITHMIC_FROM = 4  # the largest mean loss over the smallest
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def line_styles(contestants: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """{label: (colour, line)}: a colour for each contestant, dashes but for the last variant."""
    found = {}
    for i, contestant in enumerate(contestants):
        labels = contestant["labels"]
        for label in labels:
            last = "-." if i >= len(COLOURS) else "-"
            found[label] = COLOURS[i % len(COLOURS)], last if label == labels[-1] else "--"
    return found


def loss_curves(task: str, split: str, report: Mapping[str, Any]) -> str:
    """Seed-mean loss of every label on a split of one task, with its 95 % interval.

    Dotted where seeds diverged, which are not in the mean; how many is said in the figure.
    """
    styles = line_styles(report["contestants"])
    places = {label: i for i, label in enumerate(styles)}
    own = [row for row in report["curves"] if row["task"] == task]
    rows = [row for row in own if row["steps"]]
    titles = titles_of_labels(report)
    diverged = [
        _plain(f"{titles[r['label']]}: {r['diverged']} diverged") for r in own if r["diverged"]
    ]

    def draw(axes: Axes) -> None:
        for row in rows:
            colour, line = styles[row["label"]]
            line = ":" if row["diverged"] else line
            gid, losses = f"line-{places[row['label']]}", row["losses"][split]
            axes.plot(
                row["steps"], _floats(losses["mean"]), color=colour, linestyle=line, linewidth=1.4,
                gid=gid,
            )  # fmt: skip
            _band(axes, row["steps"], losses, colour).set_gid(gid)
        _scale(axes, [_floats(row["losses"][split]["mean"]) for row in rows])
        axes.set_xlabel("inner steps")
        axes.set_ylabel(SPLITS[split])
        if diverged:
            said = "\n".join(diverged)
            axes.text(0.98, 0.98, said, transform=axes.transAxes, ha="right", va="top", fontsize=7)

    return _svg(task if split == "test" else f"{task}: {SPLITS[split]}", draw)


def profiles(report: Mapping[str, Any]) -> str:
    """Share of runs with a final-loss ratio above τ, of every learned optimizer, with its 95 %
    interval at each τ.
    """
    styles = line_styles(report["contestants"])
    learned = [c for c in report["contestants"] if c["learned"]]
    titles = {c["name"]: c["title"] for c in learned}

    def draw(axes: Axes) -> None:
        for contestant in learned:
            profile = report["aggregates"][contestant["name"]].get("profile")
            if profile:
                colour, line = styles[contestant["labels"][-1]]
                axes.plot(
                    profile["ratios"], profile["shares"], color=colour, linestyle=line,
                    label=_plain(titles[contestant["name"]]),
                )  # fmt: skip
                _band(axes, profile["ratios"], profile, colour)
        axes.axvline(1, color=INK, linewidth=0.6, alpha=0.5)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("τ: tuned Adam's final loss ÷ ours")
        axes.set_ylabel("share of runs above τ")
        if axes.lines[1:]:
            axes.legend(frameon=False, fontsize=8)

    return _svg("profile", draw)


def lines(name: str, x: Sequence[float], ys: Mapping[str, Sequence[float]], **labels: Any) -> str:
    """Lines over x with a legend; ``labels``: xlabel, ylabel, xscale, yscale of the axes."""

    def draw(axes: Axes) -> None:
        for i, (label, y) in enumerate(ys.items()):
            axes.plot(
                x, _floats(y), color=COLOURS[i % len(COLOURS)], label=_plain(label), linewidth=1.4
            )
        axes.set(**labels)
        axes.legend(frameon=False, fontsize=8)

    return _svg(name, draw)


def _band(axes: Axes, x: Sequence[float], ends: Mapping[str, Any], colour: str) -> Any:
    low, high = _floats(ends["low"]), _floats(ends["high"])
    return axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _scale(axes: Axes, drawn: Sequence[np.ndarray]) -> None:
    values = np.concatenate([np.asarray(y) for y in drawn]) if drawn else np.ones(1)
    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0 and high > LOGARITHMIC_FROM * low:
        axes.set_yscale("log")


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: without mathematics, and in legends whatever it begins
    with.
    """
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.asarray(values, float)


class _PlainNumbers(LogFormatter):
    """Numbers of a logarithmic axis as text; mathematics takes long to lay out."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _svg(name: str, draw: Any) -> str:
    """Draw, and take what belongs into a page: the colour of ink follows it."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.2, 3.2))
        figure.subplots_adjust(
            **MARGINS
        )  # laid out by hand: to measure every text is half the time
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        axes.set_title(_plain(name), fontsize=9, y=1)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(_PlainNumbers())
                axis.set_minor_formatter(_PlainNumbers(minor_thresholds=(1, 0.4)))
        axes.grid(alpha=0.25, which="both", linewidth=0.5, color=INK)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'id="(line-\d+)"', r'class="\1"', svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    salt = hashlib.sha256(name.encode()).hexdigest()[:12]  # an id is of one figure alone
    svg = re.sub(r'\bid="', f'id="{salt}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}-", svg)
    begin, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', begin)
    assert box is not None
    label = html.escape(name, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" {box[0]}>{rest}'
    )
