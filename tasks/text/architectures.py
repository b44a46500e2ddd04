"""Models of sequences by name: ``ARCHITECTUREwidths_option``, such as ``gru32``."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import jax

from tasks.architectures import Architecture, ModelName, collected, parse

MODULES = ("recurrences", "transformers", "convolutions")
"""Modules of `tasks.text` with a table ``ARCHITECTURES`` {name: Architecture}.

``make(widths, option)`` of a row is a `SequenceModel`.
"""


class SequenceModel(NamedTuple):
    """``apply(inputs)`` makes Haiku modules: [B, L, d] → [B, L, width]; what comes out at a place
    depends on the inputs up to it alone.
    """

    apply: Callable[[jax.Array], jax.Array]
    width: int
    activation: str


@lru_cache(maxsize=1)
def architectures() -> Mapping[str, Architecture]:
    """All of them by name."""
    return collected([f"tasks.text.{module}" for module in MODULES])


def parse_model(text: str) -> ModelName | None:
    """The parts of a model's name; None where there is no such model."""
    return parse(text, architectures())


def make_model(name: ModelName) -> SequenceModel:
    """The model of this name."""
    made: SequenceModel = architectures()[name.architecture].make(name.widths, name.option)
    return made


def hidden_widths(name: ModelName) -> tuple[int, ...]:
    """Of the model of this name."""
    return architectures()[name.architecture].hidden(name.widths)
