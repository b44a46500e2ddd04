"""A nominal step plus a learned correction (Harrison et al. 2022, https://arxiv.org/abs/2209.11208).

    n = m̂/(√v̂ + ε)                                    Adam's direction, its start corrected
    d, μ, ν = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p ← p − α·(exp(b·ν)·n + λp) − a·d·exp(b·μ)·c      c: 1, or 1/(√v̂ + ε)

Where the network says nothing (d = ν = 0) the rule is `optax.adamw(α, …, weight_decay=λ)`. Inputs
and learned decays are those of `learned_opt.rules.adafactor_family`; n is of the first momentum and
second moment.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from learned_opt.base import LearnedOptimizer
from learned_opt.constants import check_flag, check_not_negative, check_positive
from learned_opt.features.groups import Entries
from learned_opt.features.statistics import Decays
from learned_opt.features.time import TIMESCALES
from learned_opt.rules.adafactor_family import DECAYS, SECOND_MOMENT_DECAYS, adafactor_family


def nominal_mlp(
    *,
    nominal_rate: float = 0.001,
    nominal_epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    preconditioned: bool = False,
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
      nominal_rate: α, of the nominal step.
      nominal_epsilon: ε of Adam.
      weight_decay: λ, times α.
      preconditioned: whether the correction is divided by √v̂ + ε as the nominal step is.
      step_multiplier: a, of the correction.
      exponent_multiplier: b.

    The other arguments are those of `adafactor_mlp`, and θ but for a third output.

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(
        nominal_rate=nominal_rate,
        nominal_epsilon=nominal_epsilon,
        step_multiplier=step_multiplier,
        exponent_multiplier=exponent_multiplier,
    )
    check_not_negative(weight_decay=weight_decay)
    check_flag(preconditioned=preconditioned)

    def combine(
        outputs: Sequence[jax.Array], entries: Entries, step: jax.Array, learned: Decays
    ) -> jax.Array:
        d, mu, nu = outputs
        beta1, beta2 = learned.momentum[0], learned.second_moment[0]
        m = entries.momenta[0] / (1 - beta1 ** (step + 1.0))
        v = entries.second_moments[0] / (1 - beta2 ** (step + 1.0))
        root = jnp.sqrt(v) + nominal_epsilon
        nominal = jnp.exp(exponent_multiplier * nu) * m / root
        correction = step_multiplier * d * jnp.exp(exponent_multiplier * mu)
        correction = correction / root if preconditioned else correction
        return -nominal_rate * (nominal + weight_decay * entries.parameter[0]) - correction

    constants = {
        "nominal_rate": nominal_rate,
        "nominal_epsilon": nominal_epsilon,
        "weight_decay": weight_decay,
        "preconditioned": preconditioned,
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
    }
    return adafactor_family(
        "nominal_mlp",
        constants,
        combine,
        outputs=3,
        hidden=hidden,
        decays=Decays(momentum_decays, second_moment_decays, factored_decays),
        timescales=timescales,
        state_dtype=state_dtype,
    )
