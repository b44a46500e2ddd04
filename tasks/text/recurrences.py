"""Recurrent networks, from the first place of a sequence to the last.

Elman, https://doi.org/10.1207/s15516709cog1402_1; Hochreiter and Schmidhuber (LSTM),
https://doi.org/10.1162/neco.1997.9.8.1735; Cho et al. (GRU), https://arxiv.org/abs/1406.1078.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import Architecture
from tasks.text.architectures import SequenceModel

Cell = Callable[[int], hk.RNNCore]


class ElmanCell(hk.RNNCore):
    """h ← tanh(W [x, h] + b)."""

    def __init__(self, width: int, name: str | None = None):
        super().__init__(name=name)
        self.width = width

    def __call__(self, inputs: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Shapes: [B, d], [B, width] → [B, width] twice."""
        joined = jnp.concatenate([inputs, state], axis=-1)
        hidden = jnp.tanh(hk.Linear(self.width)(joined))
        return hidden, hidden

    def initial_state(self, batch_size: int | None) -> jax.Array:
        """Zeros [B, width]."""
        return jnp.zeros([batch_size or 1, self.width])


def recurrence(inputs: jax.Array, cell: Cell, widths: tuple[int, ...]) -> jax.Array:
    """Cells of ``widths``, each on the outputs of the one below, in one loop over places.

    Shapes: [B, L, d] → [B, L, widths[-1]].
    """
    core = hk.DeepRNN([cell(width) for width in widths])
    start = jax.tree.map(lambda s: s.astype(inputs.dtype), core.initial_state(inputs.shape[0]))
    outputs, _ = hk.dynamic_unroll(core, inputs, start, time_major=False)
    return outputs


def _made(cell: Cell) -> Callable[[tuple[int, ...], str], SequenceModel]:
    def make(widths: tuple[int, ...], option: str) -> SequenceModel:
        del option
        return SequenceModel(partial(recurrence, cell=cell, widths=widths), widths[-1], "tanh")

    return make


def _row(summary: str, cell: Any) -> Architecture:
    return Architecture(summary, "32", (1, None), (), _made(cell))


ARCHITECTURES = {
    "rnn": _row("widths of Elman cells", ElmanCell),
    "gru": _row("widths of gated recurrent units", hk.GRU),
    "lstm": _row("widths of LSTM cells", hk.LSTM),
}
