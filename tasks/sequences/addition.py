"""The sum of the two marked numbers of a sequence.

    y = Σ_t m_t x_t,    x_t ~ U(0, 1),    m_t = 1 at one place of each half

Hochreiter and Schmidhuber, https://doi.org/10.1162/neco.1997.9.8.1735. The loss is the mean squared
error: 7/6 for an answer of 0, 1/6 for the mean 1.
"""

import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, TaskFamily
from tasks.readout import readout
from tasks.sequences.base import sequence_metadata
from tasks.synthetic import synthetic_family
from tasks.text.architectures import make_model

LENGTH = 20


def addition_family(name: str, model: ModelName, *, length: int = LENGTH) -> TaskFamily:
    """The problem for one model, on sequences of an even ``length``."""
    made = make_model(model)

    def draw(key: jax.Array, count: int) -> Batch:
        return marked_numbers(key, count, length)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        del cfg
        hidden = made.apply(batch["input"])
        answer = readout(hidden[:, -1], 1)[:, 0]
        return jnp.mean(jnp.square(answer - batch["target"])), {}

    return synthetic_family(name, sequence_metadata(model, made, length, 7 / 6), draw, loss)


def marked_numbers(key: jax.Array, count: int, length: int) -> Batch:
    """``input`` [count, length, 2], numbers and marks; target [count], the sums of the marked."""
    key_numbers, key_places = jax.random.split(key)
    numbers = jax.random.uniform(key_numbers, (count, length))
    half = length // 2
    places = jax.random.randint(key_places, (count, 2), 0, half) + jnp.array([[0, half]])
    marks = jnp.sum(jax.nn.one_hot(places, length), axis=1)
    target = jnp.sum(numbers * marks, axis=1)
    return {"input": jnp.stack([numbers, marks], axis=-1), "target": target}
