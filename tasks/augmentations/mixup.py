"""mixup: training on mixtures of two examples (Zhang et al. 2017, arXiv 1710.09412).

    x̃_b = (1 − s) x_b + s x_c,    ỹ_b = (1 − s) y_b + s y_c,    c = B − 1 − b,    s ~ Beta(α, α)

with one s for a minibatch. Its examples are drawn independently, so that this partner is as good
as a random one, and costs no gather. Labels stay whole numbers: the second one and its share are
handed on, and the losses of `tasks.images.objectives` make ỹ of them.
"""

from functools import partial

import jax
import jax.numpy as jnp

from tasks.augmentations.base import AugmentationError
from tasks.augmentations.distortions import distorted
from tasks.base import Batch, TaskFamily


def mixup(family: TaskFamily, alpha: float) -> TaskFamily:
    """The family at the top of this file.

    Its training minibatches have ``mixed``: {"label": int32 [B], "share": float32 [B]}.
    """
    return distorted(family, partial(_mixed, family.name, alpha))


def _mixed(name: str, alpha: float, key: jax.Array, batch: Batch) -> Batch:
    if "label" not in batch or "mixed" in batch:
        has = "are mixed already" if "mixed" in batch else "have no label"
        raise AugmentationError(
            f"the minibatches of the task {name!r} {has}; leave out this `mixup`"
        )
    # Made once, in place of once for itself and once for its partner: half of the time on CPU.
    image, label = jax.lax.optimization_barrier(batch["image"]), batch["label"]
    share = symmetric_beta(key, alpha)
    return {
        **batch,
        "image": image + share * (image[::-1] - image),
        "mixed": {"label": label[::-1], "share": jnp.full(label.shape, share)},
    }


def symmetric_beta(key: jax.Array, alpha: float) -> jax.Array:
    """One number of Beta(α, α), without the loops of a rejection, which take long to compile.

    a = ½ + ½ √(1 − u₁^{2/(2α+1)}) cos 2πu₂  ~  Beta(α + 1, α + 1)        (Ulrich 1984)
    s / (1 − s) = (u₃ / u₄)^{1/α} a / (1 − a),    as Gamma(α) = u^{1/α} Gamma(α + 1)
    """
    tiny = jnp.finfo(jnp.float32).tiny
    u = jax.random.uniform(key, (4,), minval=tiny)
    radius = jnp.sqrt(-jnp.expm1(2 / (2 * alpha + 1) * jnp.log(u[0])))
    deviation = radius * jnp.cos(2 * jnp.pi * u[1])
    of_larger = jnp.log1p(deviation) - jnp.log1p(-deviation)
    return jax.nn.sigmoid((jnp.log(u[2]) - jnp.log(u[3])) / alpha + of_larger)
