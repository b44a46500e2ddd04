"""The figure of an experiment, as PNG: an estimator has one colour everywhere."""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from meta_train.reproduce.experiment import LABELS, Curve, Panel, Surface

COLOURS = {
    "pes": "#d1495b",
    "pes_analytic": "#8c1c2e",
    "nres": "#30638e",
    "gpes": "#7d4f9e",
    "truncated_es": "#e08e0b",
    "full_es": "#8a6246",
    "truncated_backprop": "#3f8f4f",
    "full_backprop": "#14532d",
    "rtrl": "#222222",
    "uoro": "#00979d",
    "dodge": "#c268c9",
    "mixture": "#77809a",
}
OTHERS = ("#5c677d", "#9a8c98", "#2a9d8f", "#bc6c25", "#6a994e", "#b56576")
LINES = ("-", "--", ":", "-.")
CONTOURS = 14
FEW_POINTS = 12
PANELS_IN_A_ROW = 3


def draw(panels: Sequence[Panel]) -> bytes:
    """The panels side by side, as PNG."""
    content = io.BytesIO()
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 9.5}):
        figure = make_figure(panels)
        figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()


def make_figure(panels: Sequence[Panel]) -> Figure:
    """The panels side by side."""
    columns = min(len(panels), PANELS_IN_A_ROW)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.4 * columns, 4.1 * rows), layout="constrained")
    for place, panel in enumerate(panels):
        _panel(figure.add_subplot(rows, columns, place + 1), panel)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    """Contours, if there are any; a line and a band, or a path, for every curve; the axes."""
    axes.set_xscale(panel.x_scale)
    axes.set_yscale(panel.y_scale)
    if panel.surface is not None:
        _contours(axes, panel.surface)
    for curve, style in zip(panel.curves, _styles(panel.curves), strict=True):
        if curve.marks:
            _marks(axes, curve, style)
        elif panel.surface is None:
            _line(axes, curve, style, _floor(panel))
        else:
            _path(axes, curve, style)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.set_xlim(*panel.x_limits)
    axes.set_ylim(*panel.y_limits)
    _plain_numbers(axes.xaxis, *axes.get_xlim())
    _plain_numbers(axes.yaxis, *axes.get_ylim())
    axes.grid(alpha=0.25, linewidth=0.5)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        named = dict(zip(labels, handles, strict=True))
        axes.legend(named.values(), named.keys(), fontsize=7.5, framealpha=0.75, edgecolor="none")


def _styles(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Colour and line of every curve: curves of one estimator differ in the line.

    Later lines are thinner, so that one under another is seen.
    """
    others, styles = itertools.cycle(OTHERS), dict[str, dict[str, Any]]()
    labels = list(dict.fromkeys(curve.label for curve in curves))
    for label, width in zip(labels, np.linspace(2.8, 1.2, len(labels)), strict=True):
        named = [name for name, start in LABELS.items() if label.startswith(start)]
        longest = max(named, key=lambda name: len(LABELS[name]), default=None)
        colour = next(others) if longest is None else COLOURS[longest]
        count = sum(colour == other["color"] for other in styles.values())
        line = LINES[count % len(LINES)]
        styles[label] = {"color": colour, "linestyle": line, "linewidth": width}
    return [styles[curve.label] for curve in curves]


def _floor(panel: Panel) -> float:
    """The least that a logarithmic axis shows: what is not positive is drawn there."""
    if panel.y_scale != "log":
        return -np.inf
    if panel.y_limits[0] is not None:
        return panel.y_limits[0]
    values = np.concatenate([np.ravel(curve.y) for curve in panel.curves]).astype(float)
    positive = values[np.isfinite(values) & (values > 0)]
    return positive.min() if positive.size else 1.0


def _line(axes: Axes, curve: Curve, style: Mapping[str, Any], floor: float) -> None:
    """The median over seeds and their range; × where a run was last finite."""
    x, y = np.asarray(curve.x, float), np.atleast_2d(np.asarray(curve.y, float))
    finite = np.isfinite(y)
    label = curve.label + _diverged(finite.all(axis=1))
    y = np.where(finite, np.maximum(y, floor), np.inf)  # a diverged run is above all others
    median = np.median(y, axis=0)
    with np.errstate(invalid="ignore"):
        high = np.where(finite, y, -np.inf).max(axis=0)
    shown = np.isfinite(median)
    marker = "o" if len(x) <= FEW_POINTS else None
    axes.plot(x[shown], median[shown], label=label, marker=marker, markersize=3.5, **style)
    band = finite.any(axis=0)
    low = y.min(axis=0)
    axes.fill_between(x[band], low[band], high[band], color=style["color"], alpha=0.18, linewidth=0)
    for values, kept in zip(y, finite, strict=True):
        last = _last_before_divergence(kept)
        if last is not None:
            axes.plot(x[last], values[last], "x", color=style["color"], markersize=6)


def _path(axes: Axes, curve: Curve, style: Mapping[str, Any]) -> None:
    """The way of every seed over a surface, from ○ to ●; × where it was last finite."""
    xs, ys = (np.atleast_2d(np.asarray(values, float)) for values in (curve.x, curve.y))
    finite = np.isfinite(xs) & np.isfinite(ys)
    label = curve.label + _diverged(finite.all(axis=1))
    for x, y, kept in zip(xs, ys, finite, strict=True):
        axes.plot(x[kept], y[kept], label=label, **{**style, "linewidth": 1, "alpha": 0.85})
        label = "_"  # once in the legend
        if kept.any():
            first, end = np.flatnonzero(kept)[[0, -1]]
            axes.plot(x[first], y[first], "o", color="white", markeredgecolor="black", ms=5)
            mark = "o" if kept.all() else "x"
            axes.plot(x[end], y[end], mark, color=style["color"], zorder=3, markersize=6)


def _marks(axes: Axes, curve: Curve, style: Mapping[str, Any]) -> None:
    x, y = np.broadcast_arrays(np.asarray(curve.x, float), np.asarray(curve.y, float))
    axes.plot(
        x.ravel(), y.ravel(), "D", label=curve.label, color=style["color"], markersize=5,
        markeredgecolor="white", zorder=4,
    )  # fmt: skip


def _plain_numbers(axis: Axis, low: float, high: float) -> None:
    """1000 instead of 10³ on a logarithmic axis of few decades."""
    if axis.get_scale() == "log" and low > 1e-3 and high < 1e5:
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        if high < 20 * low:
            axis.set_minor_formatter(lambda value, _: f"{value:g}")
        else:
            axis.set_minor_formatter(NullFormatter())


def _diverged(finite: np.ndarray) -> str:
    return "" if finite.all() else f" ({(~finite).sum()} of {len(finite)} diverged)"


def _last_before_divergence(finite: np.ndarray) -> int | None:
    if finite.all() or not finite.any():
        return None
    return int(np.flatnonzero(finite)[-1])


def _contours(axes: Axes, surface: Surface) -> None:
    """As many values in every band, so that valleys and plateaus both show."""
    z = np.ma.masked_invalid(np.asarray(surface.z, float))
    levels = np.unique(np.quantile(z.compressed(), np.linspace(0, 1, CONTOURS)))
    if len(levels) < 2:
        levels = levels[0] + np.array([-0.5, 0.5])
    norm = BoundaryNorm(levels, 256, extend="neither")
    filled = axes.contourf(surface.x, surface.y, z, levels, cmap="Blues_r", norm=norm, alpha=0.7)
    bar = axes.figure.colorbar(filled, ax=axes, shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
