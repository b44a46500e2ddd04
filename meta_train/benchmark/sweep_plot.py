"""The plot of a sweep: what an update costs, and how near to the machine's limit it is."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

if TYPE_CHECKING:
    from meta_train.benchmark.growth import Point

LABELS = {
    "particles": "particles N",
    "window": "window W, inner steps",
    "width": "width of the hidden layers",
    "tasks": "tasks in an update",
}
MEASURED, PROPORTIONAL = "#30638e", "#e08e0b"


def draw(points: "Sequence[Point]") -> bytes:
    """A column for every axis: milliseconds an update above, share of the floor below; PNG."""
    axes = list(dict.fromkeys(point.axis for point in points))
    content = io.BytesIO()
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 9.5}):
        figure = Figure(figsize=(3.4 * len(axes), 5.6), layout="constrained")
        places = figure.subplots(2, len(axes), squeeze=False, sharex="col", sharey="row")
        for column, axis in enumerate(axes):
            of_axis = [point for point in points if point.axis == axis]
            _cost(places[0, column], of_axis)
            _share(places[1, column], of_axis)
        places[0, 0].set_ylabel("milliseconds an update")
        places[1, 0].set_ylabel("% of the floor")
        places[0, 0].legend(fontsize=7.5, framealpha=0.75, edgecolor="none")
        figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()


def _cost(axes: Axes, points: "Sequence[Point]") -> None:
    """Measured, and in proportion to the nominal operations through the cheapest per operation."""
    values = [point.value for point in points]
    milliseconds = np.array([1e3 * point.update_seconds for point in points])
    operations = np.array([point.nominal_flops for point in points])
    line = operations * np.min(milliseconds / operations)
    axes.loglog(values, line, "--", color=PROPORTIONAL, label="in proportion to the operations")
    axes.loglog(values, milliseconds, "o-", color=MEASURED, label="measured")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _share(axes: Axes, points: "Sequence[Point]") -> None:
    values = [point.value for point in points]
    axes.semilogx(values, [100 * p.floor_fraction for p in points], "o-", color=MEASURED)
    axes.set_ylim(0, 100)
    axes.set_xlabel(LABELS[points[0].axis])
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values, [str(value) for value in values])
    axes.grid(alpha=0.25, linewidth=0.5)
