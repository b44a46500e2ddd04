"""Associative recall: the value that came with a key, asked for at the end.

    input   key₁ value₁ key₂ value₂ … key_P value_P key_j,    target  value_j behind the last place

Graves et al., https://arxiv.org/abs/1410.5401; Ba et al., https://arxiv.org/abs/1610.06258. Who
knows that the answer is among the values at hand, and no more, is at most log P from the truth.
"""

import math

import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.images.objectives import classification
from tasks.readout import readout
from tasks.sequences.base import sequence_metadata
from tasks.synthetic import synthetic_family
from tasks.text.architectures import make_model

KEYS = 8
VALUES = 8  # numbered from KEYS on as inputs, from 0 on as answers


def recall_family(name: str, model: ModelName, *, pairs: int = 2) -> TaskFamily:
    """The problem for one model, of so many ``pairs``, at most `KEYS`."""
    made = make_model(model)

    def draw(key: jax.Array, count: int) -> Batch:
        return pairs_and_question(key, count, pairs)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        del cfg
        hidden = made.apply(batch["input"])
        return classification(readout(hidden[:, -1], VALUES), batch)

    metadata = sequence_metadata(model, made, 2 * pairs + 1, math.log(VALUES))
    return synthetic_family(name, metadata, draw, loss)


def pairs_and_question(key: jax.Array, count: int, pairs: int) -> Batch:
    """``input`` [count, 2 · pairs + 1, KEYS + VALUES], one-hot; label [count], from 0 on."""
    key_keys, key_values, key_asked = jax.random.split(key, 3)
    keys = jnp.argsort(jax.random.uniform(key_keys, (count, KEYS)), axis=1)[:, :pairs]
    values = jax.random.randint(key_values, (count, pairs), 0, VALUES)
    asked = jax.random.randint(key_asked, (count, 1), 0, pairs)
    told = jnp.stack([keys, KEYS + values], axis=-1).reshape(count, 2 * pairs)
    question = jnp.take_along_axis(keys, asked, axis=1)
    tokens = jnp.concatenate([told, question], axis=1)
    return {
        "input": jax.nn.one_hot(tokens, KEYS + VALUES),
        "label": jnp.take_along_axis(values, asked, axis=1)[:, 0],
    }
