"""Checks of the constants of an update rule: each raises ValueError with the name and the value.

A rule may be built inside a traced function (`optax.inject_hyperparams` does it): numbers that
are traced pass unseen.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

MOST_LAYERS = 16
WIDEST = 4096
MOST_VALUES = 64
TINY, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

STATE_DTYPES = ("float32", "bfloat16")


def check_positive(**numbers: Any) -> None:
    """Numbers of float32 above 0."""
    for name, value in numbers.items():
        if not isinstance(value, jax.Array) and not (_is_number(value) and value >= TINY):
            raise ValueError(f"`{name}`={short(value)}: must be a positive number of float32")


def check_not_negative(**numbers: Any) -> None:
    """Numbers of float32, 0 included."""
    for name, value in numbers.items():
        if not isinstance(value, jax.Array) and not (_is_number(value) and value >= 0):
            raise ValueError(f"`{name}`={short(value)}: must be a number of float32, at least 0")


def check_share(**numbers: Any) -> None:
    """Numbers in [0, 1)."""
    for name, value in numbers.items():
        if not isinstance(value, jax.Array) and not (_is_number(value) and 0 <= value < 1):
            raise ValueError(f"`{name}`={short(value)}: must be a number in [0, 1)")


def check_decays(**decays: Any) -> None:
    """Sequences of numbers in [0, 1) that are below 1 in float32 too; none may be empty."""
    for name, values in decays.items():
        if not _is_list(values) or not all(
            _is_number(value) and value >= 0 and np.float32(value) < 1 for value in values
        ):
            raise ValueError(
                f"`{name}`={short(values)}: must be 1 to {MOST_VALUES} numbers in [0, 1)"
            )


def check_timescales(**timescales: Any) -> None:
    """Sequences of positive numbers of float32; none may be empty."""
    for name, values in timescales.items():
        if not _is_list(values) or not all(_is_number(v) and v >= TINY for v in values):
            raise ValueError(
                f"`{name}`={short(values)}: must be 1 to {MOST_VALUES} positive numbers of float32"
            )


def check_widths(**widths: Any) -> None:
    """Sequences of whole numbers that are the widths of hidden layers."""
    for name, values in widths.items():
        if (
            not _is_list(values)
            or len(values) > MOST_LAYERS
            or not all(is_whole(value) and 1 <= value <= WIDEST for value in values)
        ):
            raise ValueError(
                f"`{name}`={short(values)}: must be 1 to {MOST_LAYERS} whole numbers up to {WIDEST}"
            )


def check_whole(low: int, high: int, **numbers: Any) -> None:
    """Whole numbers from ``low`` to ``high``."""
    for name, value in numbers.items():
        if not (is_whole(value) and low <= value <= high):
            raise ValueError(
                f"`{name}`={short(value)}: must be a whole number from {low} to {high}"
            )


def check_flag(**flags: Any) -> None:
    """True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"`{name}`={short(value)}: must be true or false")


def check_choice(legal: Sequence[str], **choices: Any) -> None:
    """One of the ``legal`` words."""
    for name, value in choices.items():
        if not isinstance(value, str) or value not in legal:
            raise ValueError(f"`{name}`={short(value)}: must be one of {sorted(legal)}")


def check_state_dtype(state_dtype: Any) -> None:
    """The name of a dtype that the state of an optimizer is kept in."""
    check_choice(STATE_DTYPES, state_dtype=state_dtype)


def is_whole(value: Any) -> bool:
    """Whether it is an integer, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value as it may stand in a message of one line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = list(value) if len(value) <= 12 else f"{len(value)} values"
        return re.sub(r"\s+", " ", str(value))[:200]
    return re.sub(r"\s+", " ", repr(value))[:200]


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float | np.floating | np.integer)
    return real and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_list(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and (1 <= len(values) <= MOST_VALUES)
    )
