"""What an experiment of a paper is made of: what it runs, what it shows, what it claims."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LABELS: Mapping[str, str] = {
    "pes": "PES",
    "pes_analytic": "PES+A",
    "nres": "NRES",
    "gpes": "GPES",
    "truncated_es": "truncated ES",
    "full_es": "full ES",
    "truncated_backprop": "TBPTT",
    "full_backprop": "backprop",
    "rtrl": "RTRL",
    "uoro": "UORO",
    "dodge": "DODGE",
    "mixture": "mixture",
}
"""What figures and claims call an estimator. A curve whose label begins so has its colour."""


class Effort(NamedTuple):
    """How much is spent: ``fast`` is the short form of every experiment; ``seeds`` runs of each."""

    fast: bool
    seeds: int


class Curve(NamedTuple):
    """One line of a panel: x [points], y [seeds, points]; median and range are drawn.

    On a panel with a `Surface`, y [seeds, points] are positions and ``x`` [seeds, points] too.
    With ``marks``, every y is drawn as a mark, and no line.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    marks: bool = False


class Surface(NamedTuple):
    """Contours behind the curves of a panel: z [len(y), len(x)]."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


class Panel(NamedTuple):
    """One pair of axes of a figure; scales are those of matplotlib ("linear", "log").

    Limits keep what diverges from pressing the others flat; None is chosen to fit. Curves
    with the same label are drawn alike.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_scale: str = "linear"
    y_scale: str = "linear"
    surface: Surface | None = None
    x_limits: tuple[float | None, float | None] = (None, None)
    y_limits: tuple[float | None, float | None] = (None, None)


class Claim(NamedTuple):
    """A statement of the paper, whether it was seen here, and the figures that say so."""

    text: str
    seen: bool
    measured: str


class Result(NamedTuple):
    """What one experiment showed; ``figures`` are JSON values.

    ``notes`` name what differs from the paper: substitutes for its data, smaller sizes.
    """

    panels: Sequence[Panel]
    claims: Sequence[Claim]
    figures: dict[str, Any]
    notes: Sequence[str]


class Experiment(NamedTuple):
    """``run(effort) -> Result``; the same result for the same effort."""

    name: str
    title: str
    source: str
    run: Callable[[Effort], Result]
