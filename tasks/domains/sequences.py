"""Memory and arithmetic on sequences that are drawn by key."""

from collections.abc import Callable
from functools import partial

from tasks.architectures import ModelName
from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.sequences.addition import addition_family
from tasks.sequences.memory import SYMBOLS, memory_family
from tasks.sequences.recall import recall_family
from tasks.text.architectures import parse_model
from tasks.text.variations import sample_init_scale


def _row(problem: str, model: str, make: Callable[..., TaskFamily], target: AdamTarget) -> Row:
    name = f"{problem}_{model}"
    parsed = parse_model(model)
    if parsed is None:
        raise ValueError(f"{model!r} is no model of sequences")
    return Row(name, partial(make, name, model=parsed), target)


_copy = partial(memory_family, answer="copy")
_reversal = partial(memory_family, answer="reversal")
_sorting = partial(memory_family, answer="sorting")

ROWS = (
    _row("copy_memory", "rnn32", _copy, AdamTarget(1e-2, 40, 0.5)),
    _row("copy_memory", "gru32", _copy, AdamTarget(1e-2, 40, 0.5)),
    _row("copy_memory", "lstm32", _copy, AdamTarget(1e-2, 40, 0.5)),
    _row("copy_memory", "transformer32x1", _copy, AdamTarget(1e-2, 40, 0.5)),
    _row("reversal", "gru32", _reversal, AdamTarget(1e-2, 40, 0.5)),
    _row("sorting", "rnn32x32", _sorting, AdamTarget(1e-2, 40, 0.4)),
    _row("sorting", "transformer32x1", _sorting, AdamTarget(1e-2, 40, 0.4)),
    _row("addition", "rnn32", addition_family, AdamTarget(1e-2, 40, 0.4)),
    _row("addition", "lstm32", addition_family, AdamTarget(1e-2, 40, 0.4)),
    _row("addition", "conv32x32x32x32", addition_family, AdamTarget(1e-2, 40, 0.4)),
    _row("associative_recall", "gru32", recall_family, AdamTarget(1e-2, 60, 0.7)),
    _row("associative_recall", "transformer32x2", recall_family, AdamTarget(1e-2, 60, 0.7)),
)


def _copies(name: str, model: str, widths: list[int], length: int) -> TaskFamily:
    parts = ModelName(model, tuple(widths), "")
    return memory_family(
        name, "copy", parts, length=length, delays=(2, 10), used=(2, SYMBOLS),
        init_scales=sample_init_scale,
    )  # fmt: skip


_SHAPES = (
    ("rnn", [32], 3),
    ("rnn", [32], 6),
    ("gru", [16], 3),
    ("gru", [32], 6),
    ("lstm", [16], 3),
    ("lstm", [32], 6),
    ("transformer", [16, 1], 3),
    ("transformer", [32, 1], 6),
)

FAMILIES = (
    ParametricFamily(
        "sequence_copies",
        "copy memory; the delay, the number of symbols in use and the initial scale vary",
        tuple(
            {"model": model, "widths": widths, "length": length}
            for model, widths, length in _SHAPES
        ),
        _copies,
        AdamTarget(1e-2, 40, 0.6),
    ),
)
