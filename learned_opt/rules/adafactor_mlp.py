"""The Adafactor MLP, "small_fc_lopt" (Metz et al. 2022, https://arxiv.org/abs/2203.11860).

    d, μ = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p    ← p − a·d·exp(b·μ)

Inputs and learned decays are those of `learned_opt.rules.adafactor_family`. With hidden layers of
4 and 4 θ is 197 numbers, with 32 and 32 it is 2409, 7 of them offsets.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from learned_opt.base import LearnedOptimizer
from learned_opt.constants import check_positive
from learned_opt.features.groups import Entries
from learned_opt.features.statistics import Decays
from learned_opt.features.time import TIMESCALES
from learned_opt.kernels.step_of_tensor import Recipe
from learned_opt.rules.adafactor_family import (
    DECAYS,
    EPSILON,
    SECOND_MOMENT_DECAYS,
    adafactor_family,
)


def adafactor_mlp(
    *,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (4, 4),
    momentum_decays: Sequence[float] = DECAYS,
    second_moment_decays: Sequence[float] = SECOND_MOMENT_DECAYS,
    factored_decays: Sequence[float] = DECAYS,
    timescales: Sequence[float] = TIMESCALES,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers; (4, 4) and (32, 32) are published.
      momentum_decays, second_moment_decays, factored_decays: β₀ of each statistic, in [0, 1).
      timescales: τ of each time feature, in updates.
      state_dtype: of the statistics, "float32" or "bfloat16".

    θ has the weights of ``hk.nets.MLP([*hidden, 2])`` and the offsets of the decays.

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(step_multiplier=step_multiplier, exponent_multiplier=exponent_multiplier)

    def combine(
        outputs: Sequence[jax.Array], entries: Entries, step: jax.Array, learned: Decays
    ) -> jax.Array:
        del entries, step, learned
        d, mu = outputs
        return -step_multiplier * d * jnp.exp(exponent_multiplier * mu)

    return adafactor_family(
        "adafactor_mlp",
        {"step_multiplier": step_multiplier, "exponent_multiplier": exponent_multiplier},
        combine,
        outputs=2,
        recipe=Recipe(step_multiplier, exponent_multiplier, EPSILON),
        hidden=hidden,
        decays=Decays(momentum_decays, second_moment_decays, factored_decays),
        timescales=timescales,
        state_dtype=state_dtype,
    )
