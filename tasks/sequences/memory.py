"""Symbols that are to be said again after a delay: as they came, backwards, or in order.

    place   0 … S−1    S … S+D−1    S+D    S+D+1 … 2S+D
    input   symbols    blanks       go     blanks
    target  blanks     blanks       blank  answer

Hochreiter and Schmidhuber, https://doi.org/10.1162/neco.1997.9.8.1735; Arjovsky et al.,
https://arxiv.org/abs/1511.06464. The loss is the mean over all places: blanks are soon learned.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.images.objectives import classification
from tasks.readout import readout
from tasks.sequences.base import sequence_metadata
from tasks.synthetic import synthetic_family
from tasks.text.architectures import make_model
from tasks.text.variations import scaled_init

BLANK = 0
SYMBOLS = 8  # numbered from 1
GO = SYMBOLS + 1
DRAWN = 840  # a multiple of 1, 2, …, 8: so all symbols in use are as likely

ANSWERS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "copy": lambda symbols: symbols,
    "reversal": lambda symbols: jnp.flip(symbols, axis=1),
    "sorting": lambda symbols: jnp.sort(symbols, axis=1),
}
"""What is to be said of symbols [B, S]."""


def memory_family(
    name: str,
    answer: str,
    model: ModelName,
    *,
    length: int = 4,
    delays: tuple[int, int] = (4, 4),
    used: tuple[int, int] = (SYMBOLS, SYMBOLS),
    init_scales: Callable[[jax.Array], jax.Array] = lambda key: jnp.ones(()),
) -> TaskFamily:
    """A family of one answer and one model.

    Args:
      name: of the family.
      answer: a key of `ANSWERS`.
      model: the name of the model in its parts.
      length: S, symbols of a sequence.
      delays: the least and the largest D of a task, drawn uniformly; sequences have the length of
        the largest.
      used: the least and the largest number of symbols in use, drawn uniformly, at most `SYMBOLS`.
      init_scales: draws the factor of the initial weights.
    """
    made = make_model(model)
    places = 2 * length + delays[1] + 1

    def sample(key: jax.Array) -> Configuration:
        key_delay, key_used, key_scale = jax.random.split(key, 3)
        return {
            "delay": jax.random.randint(key_delay, (), delays[0], delays[1] + 1),
            "used": jax.random.randint(key_used, (), used[0], used[1] + 1),
            "init_scale": init_scales(key_scale),
        }

    def draw(key: jax.Array, count: int) -> Batch:
        return {"drawn": jax.random.randint(key, (count, length), 0, DRAWN)}

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        symbols = 1 + batch["drawn"] % cfg["used"]
        inputs, targets = memory_sequences(symbols, ANSWERS[answer](symbols), cfg["delay"], places)

        read = jax.nn.one_hot(inputs, GO + 1, dtype=cfg["init_scale"].dtype)
        hidden = scaled_init(cfg["init_scale"], made).apply(read)
        logits = readout(hidden, SYMBOLS + 1).reshape(-1, SYMBOLS + 1)
        return classification(logits, {"label": targets.reshape(-1)})

    metadata = sequence_metadata(model, made, places, math.log(SYMBOLS + 1))
    return synthetic_family(name, metadata, draw, loss, sample)


def memory_sequences(
    symbols: jax.Array, answers: jax.Array, delay: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
    """Inputs and targets at the top of this file. Shapes: integers [B, S] → [B, length] twice."""
    count = symbols.shape[1]
    place = jnp.arange(length)[None]
    inputs = jnp.pad(symbols, ((0, 0), (0, length - count)))
    inputs = jnp.where(place == count + delay, GO, inputs)
    since = jnp.broadcast_to(place - (count + delay + 1), inputs.shape)
    said = jnp.take_along_axis(answers, jnp.clip(since, 0, count - 1), axis=1)
    return inputs, jnp.where((since >= 0) & (since < count), said, BLANK)
