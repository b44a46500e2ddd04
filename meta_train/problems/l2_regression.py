"""The L2 coefficient of linear regression (Vicol et al. 2021, arXiv:2112.13835).

    w_t = w_{t−1} − α (Xᵀ(X w_{t−1} − y) + e^θ w_{t−1}),    L_t = ½ mean (X′w_t − y′)²

gradient descent on the training examples (X, y), judged by validation examples (X′, y′). At
first a coefficient only holds back the weights that matter; that it keeps the weights of
useless features small shows much later. An estimator that sees few steps finds it harmful.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problem import Theta, UnrolledProblem

INITIAL_THETAS = (-5.0, -3.0, -1.0, 1.0, 3.0, 5.0)
LENGTH = 800


class Examples(NamedTuple):
    """Features [n, features] and targets [n]."""

    features: jax.Array
    targets: jax.Array


def l2_regression(features: int = 20, rate: float = 1e-3) -> UnrolledProblem:
    """The problem at the top of this file, from w_0 = 0; θ is a scalar (`INITIAL_THETAS`).

    Data are ``{"train": Examples, "validation": Examples}``, such as `synthetic_examples`;
    the optimum is a matter of them. Keys are not used.

    Args:
      features: the size of w.
      rate: α of gradient descent.

    Raises:
      ValueError: an argument is not positive.
    """
    if features < 1:
        raise ValueError(f"`features`={features}: must be at least 1")
    if not rate > 0:
        raise ValueError(f"`rate`={rate}: must be positive")

    def init(key: jax.Array, theta: Theta) -> jax.Array:
        del key
        return jnp.zeros(features, theta.dtype)

    def step(
        key: jax.Array, theta: Theta, weights: jax.Array, data: Mapping[str, Examples]
    ) -> tuple[jax.Array, jax.Array]:
        del key
        train, validation = data["train"], data["validation"]
        residual = train.features @ weights - train.targets
        gradient = train.features.T @ residual + jnp.exp(theta) * weights
        weights = weights - rate * gradient
        errors = validation.features @ weights - validation.targets
        return weights, 0.5 * jnp.mean(jnp.square(errors))

    return UnrolledProblem(init, step)


def synthetic_examples(
    *,
    features: int = 20,
    informative: int = 3,
    train: int = 30,
    validation: int = 500,
    seed: int = 0,
) -> dict[str, Examples]:
    """Few large features that matter, many small ones that only invite overfitting.

    Features are normal with standard deviation 2 where they matter and 0.6 where not; the
    target is 1.5 × the sum of the former, with noise of standard deviation 1.

    Args:
      features, informative: their number, and that of those that matter.
      train, validation: numbers of examples.
      seed: of the draw.
    """
    random = np.random.default_rng(seed)
    scale = np.where(np.arange(features) < informative, 2.0, 0.6)
    weights = np.where(np.arange(features) < informative, 1.5, 0.0)

    def draw(count: int) -> Examples:
        x = random.normal(size=(count, features)) * scale
        y = x @ weights + random.normal(size=count)
        return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))

    return {"train": draw(train), "validation": draw(validation)}
