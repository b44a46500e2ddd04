"""Loss curves of a report, as SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_train.evaluate.scoring import LEARNED

STYLES = {
    LEARNED: ("#d1495b", "-", "learned"),
    "adam/constant": ("#30638e", "--", "Adam, constant"),
    "adam/cosine": ("#30638e", "-", "Adam, cosine"),
    "sgd_momentum/constant": ("#8d99ae", "--", "SGD+momentum, constant"),
    "sgd_momentum/cosine": ("#8d99ae", "-", "SGD+momentum, cosine"),
}


LOGARITHMIC_FROM = 20  # the largest mean loss over the smallest


def loss_curves(task: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Seed-mean test loss of every optimizer on one task, with its 95 % interval, as SVG."""
    with matplotlib.rc_context({"svg.hashsalt": task, "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for name, (colour, line, label) in STYLES.items():
            curves = [run for run in runs if run["optimizer"] == name]
            losses = np.asarray([run["test"] for run in curves], float)
            finite = np.isfinite(losses).all(axis=1)
            if not finite.all():
                label += f" ({(~finite).sum()} diverged)"
            if not finite.any():
                axes.plot([], [], color=colour, linestyle=line, label=label)
                continue
            steps, shown = np.asarray(curves[0]["steps"]), losses[finite]
            mean = shown.mean(axis=0)
            spread = 1.96 * shown.std(axis=0, ddof=min(1, len(shown) - 1)) / np.sqrt(len(shown))
            axes.plot(steps, mean, color=colour, linestyle=line, label=label, linewidth=1.4)
            axes.fill_between(
                steps, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0
            )
        low, high = _range(axes)
        if low > 0 and high > LOGARITHMIC_FROM * low:
            axes.set_yscale("log")
        axes.set_xlabel("inner steps")
        axes.set_ylabel("test loss")
        axes.set_title(task, fontsize=9)
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        axes.legend(fontsize=7, frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _range(axes: Axes) -> tuple[float, float]:
    """The smallest and the largest value of the lines drawn."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    return (drawn.min(), drawn.max()) if len(drawn) else (0.0, 0.0)
