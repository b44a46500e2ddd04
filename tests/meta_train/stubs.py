"""A family small enough to follow by hand, and a rule to train it with."""

import jax
import jax.numpy as jnp
import optax

from learned_opt import LearnedOptimizer
from tasks import SPLITS, Task, TaskFamily, TaskMetadata


def scalar_family(loss=lambda x, target: 0.5 * (x - target) ** 2, initial_loss=0.5):
    """One parameter x from 1; every example of a split is the number of that split."""

    def task_loss(params, model_state, key, batch):
        del key
        return loss(params["x"], batch), (model_state + 1, {})

    return TaskFamily(
        name="scalar",
        metadata=TaskMetadata("analytic", "scalar", "none", "synthetic", (), 1, 10, initial_loss),
        load=lambda: {split: jnp.full(4, float(i)) for i, split in enumerate(SPLITS)},
        sample=lambda key: {},
        build=lambda cfg: Task(lambda key: ({"x": jnp.ones(())}, jnp.zeros((), int)), task_loss),
        batch=lambda key, arrays: arrays[jax.random.randint(key, (), 0, 4)],
        examples=lambda arrays, limit: arrays[0],
    )


SGD = LearnedOptimizer(
    "sgd",
    {},
    lambda key: jnp.asarray(0.1),
    lambda rate, num_steps=None: optax.with_extra_args_support(optax.sgd(rate)),
)
"""θ is the learning rate."""
