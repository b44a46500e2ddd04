"""Figures that claims compare, from what was recorded over seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from meta_train.reproduce.training import History

LATE = 0.3
"""The share of the points, at the end, that a noisy run is judged by."""


def at(history: History, update: int) -> np.ndarray:
    """The metric of every seed after ``update`` updates: [seeds, …].

    Raises:
      ValueError: no point was recorded there.
    """
    (points,) = np.nonzero(history.updates == update)
    if not len(points):
        raise ValueError(
            f"`update`={update}: no point was recorded there; the last is at {history.updates[-1]}"
        )
    return history.metric[:, points[0]]


def late_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last points, `LATE` of them: [seeds, points, …] → [seeds, …]."""
    return values[:, -max(1, round(LATE * values.shape[1])) :].mean(axis=1)


def in_words(values: np.ndarray, digits: int = 3) -> str:
    """The median, and the range where there is one."""
    values = np.ravel(values)
    median, low, high = (
        f"{value:.{digits}g}" for value in (np.median(values), values.min(), values.max())
    )
    return median if low == high else f"{median} ({low} to {high})"


def recorded(histories: Mapping[str, History]) -> dict[str, Any]:
    """Histories as JSON values: updates [points], θ and metric [seeds, points, …]."""
    return {name: history._asdict() for name, history in histories.items()}
