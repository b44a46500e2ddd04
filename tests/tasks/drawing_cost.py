"""What drawing minibatches costs, as a share of the inner steps of meta-training:

    python -m tests.tasks.drawing_cost

128 images of 8×8 for 64 particles, 20 times: by one program that draws alone, and by an update
of PES with the rule `adafactor_mlp_h32`, 20 inner steps of `fashion_mnist_8x8_mlp32` with such
minibatches. The members of an antithetic pair share theirs, so that 32 are drawn for a step. All
take turns on one device; shares are medians over the turns.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.benchmark import take_turns
from meta_train.assemble import assemble
from meta_train.benchmark.throughput import caller, configuration
from tasks import get_family
from tasks.augmentations import augment

TASK, RULE = "fashion_mnist_8x8_mlp32", "adafactor_mlp_h32"
PARTICLES, STEPS, BATCH, TURNS = 64, 20, 128, 7
DISTORTIONS = ("", "flip", "crop:2", "noise:0.1", "mixup:0.2")


def drawing(family, arrays):
    """A call that draws for all pairs, one minibatch after the other, and reads them once.

    Images are summed over a minibatch, so that every value is computed.
    """

    def draw(key, arrays):
        batch = family.training_batch(key, arrays)
        return jax.tree.map(lambda x: x.sum(axis=0), batch)

    def draw_all(key, arrays):
        keys = jax.random.split(key, PARTICLES // 2)
        return jax.vmap(draw, in_axes=(0, None))(keys, arrays)

    @jax.jit
    def draws(key, arrays):
        def step(total, key):
            return jax.tree.map(jnp.add, total, draw_all(key, arrays)), None

        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(draw_all, key, arrays))
        return jax.lax.scan(step, nothing, jax.random.split(key, STEPS))[0]

    return lambda: draws(jax.random.key(0), arrays)


def shares():
    """{distortion: the share of drawing in the inner steps}, "" for none."""
    family = get_family(TASK, batch_size=BATCH)
    config = configuration(TASK, RULE, PARTICLES, STEPS)
    run = assemble(dataclasses.replace(config, devices=1), family)
    state = run.training.init(run.key_init)
    advance = run.training.compiled(state, run.key_updates, run.data)
    families = [augment(family, text) if text else family for text in DISTORTIONS]
    calls = [drawing(one, run.data["train"]) for one in families]
    update, *drawn = take_turns([caller(run, advance, state, 1), *calls], TURNS)
    return {
        text: float(np.median(seconds / update))
        for text, seconds in zip(DISTORTIONS, drawn, strict=True)
    } | {"update": float(np.median(update))}


if __name__ == "__main__":
    print(json.dumps(shares()))
