"""Celo2 (Moudgil et al. 2026, https://arxiv.org/abs/2602.19142): a normalised direction.

    d = MLP([30 features of the statistics])       normalised over the last two axes
    u = d / RMS(d),  or NS(d) / RMS(NS(d))         over the last two axes; NS: Newton–Schulz
    p ← p − α_t·(u + λp)                           α_t, λ: the user's rate or schedule, and decay

The features are those of `learned_opt.features.groups.CELO`; a tensor of rank 0 or 1 has the first
nine groups only, 15 inputs. Gradients are clipped to ±1000. The network has three outputs, of which
the first is used: 347 numbers with hidden layers of 8 and 8. No feature reads the time, the loss or
the horizon.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
    check_choice,
    check_not_negative,
    check_positive,
    check_share,
    check_state_dtype,
    check_whole,
    check_widths,
)
from learned_opt.features.groups import (
    CELO,
    WITHOUT_ROWS,
    Entries,
    check_group_decays,
    entries_of,
    feature_groups,
    group_sizes,
    input_names,
)
from learned_opt.features.normalization import inverse_rms_of_matrices
from learned_opt.features.scales import scales_of_matrices
from learned_opt.features.statistics import (
    Decays,
    Statistics,
    init_statistics,
    stored,
    update_statistics,
)
from learned_opt.network import per_parameter_mlp
from learned_opt.newton_schulz import orthogonalized
from learned_opt.rules.adafactor_family import DECAYS
from learned_opt.rules.tensorwise import tensorwise
from learned_opt.tensors import UpdateTensor, real_array

SECOND_MOMENT_DECAYS = (0.95,)
EPSILON = 1e-9
ROOT_EPSILON = 1e-8
LARGEST_GRADIENT = 1000.0
OUTPUTS = 3
VECTORS = ("rule", "adamw")


def normalized_mlp(
    *,
    learning_rate: float | Callable[[jax.Array], jax.Array] | None = None,
    weight_decay: float = 0.0,
    weight_decay_mask: Any = None,
    newton_schulz_steps: int = 0,
    vectors: str = "rule",
    vector_rate: float = 1.0,
    vector_decays: Sequence[float] = (0.9, 0.95),
    hidden: Sequence[int] = (8, 8),
    momentum_decays: Sequence[float] = DECAYS,
    second_moment_decays: Sequence[float] = SECOND_MOMENT_DECAYS,
    factored_decays: Sequence[float] = DECAYS,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      learning_rate: α_t, a number or an optax schedule; to build the rule without is an error.
      weight_decay: λ, times the rate as in `optax.adamw`.
      weight_decay_mask: as in `optax.adamw`: a pytree of truth values like the parameters, or a
        function that makes one of them, for the tensors that decay; None is all of them.
      newton_schulz_steps: iterations on tensors of rank 2 and more; 0 is none ("celo2-base"), the
        published value is 5 ("celo2").
      vectors: what updates tensors of rank 0 and 1: the "rule" itself, or "adamw".
      vector_rate: what the rate is multiplied by for AdamW.
      vector_decays: β₁ and β₂ of AdamW.
      hidden: widths of the hidden layers.
      momentum_decays, second_moment_decays, factored_decays: β of each statistic, in [0, 1).
      state_dtype: of the statistics, "float32" or "bfloat16".

    θ has the names and shapes of ``hk.nets.MLP([*hidden, 3])``.

    Raises:
      ValueError: a constant is out of its range; or, in ``build``, there is no rate.
    """
    if learning_rate is not None and not callable(learning_rate):
        check_not_negative(learning_rate=learning_rate)
    check_not_negative(weight_decay=weight_decay)
    check_whole(0, 100, newton_schulz_steps=newton_schulz_steps)
    check_choice(VECTORS, vectors=vectors)
    check_positive(vector_rate=vector_rate)
    if not isinstance(vector_decays, Sequence) or len(vector_decays) != 2:
        raise ValueError(f"`vector_decays`={vector_decays!r}: must be β₁ and β₂ of AdamW")
    check_share(vector_decays=vector_decays[0])
    check_share(vector_decays=vector_decays[1])
    check_widths(hidden=hidden)
    check_state_dtype(state_dtype)
    decays = Decays(momentum_decays, second_moment_decays, factored_decays)
    check_group_decays(decays)
    inputs = input_names(CELO, group_sizes(decays))
    network = per_parameter_mlp(len(inputs), hidden, OUTPUTS)

    def direction(theta: Theta, step: jax.Array) -> UpdateTensor:
        def update_one(
            gradient: jax.Array, parameter: jax.Array, before: Statistics
        ) -> tuple[jax.Array, Statistics]:
            gradient = jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
            statistics = update_statistics(before, gradient, decays)
            entries = entries_of(gradient, parameter, statistics)
            scales = scales_of_matrices(
                entries, groups_of(entries), moment_epsilon=ROOT_EPSILON, epsilon=EPSILON
            )

            def descend(arrays: tuple[Entries, list[jax.Array]]) -> jax.Array:
                return network.apply(theta, features(arrays[0]), arrays[1])[0]

            d = network.evaluate(descend, (entries, scales), parameter.shape)
            if d.ndim >= 2 and newton_schulz_steps:
                d = orthogonalized(d, newton_schulz_steps)
            d = d * inverse_rms_of_matrices(d[None], EPSILON)[0]
            return d, stored(statistics, state_dtype, step)

        return update_one

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        if learning_rate is None:
            raise ValueError(
                "`learning_rate`=None: the output of the rule 'normalized_mlp' is a direction; "
                "give a rate or a schedule, as in `load(name, learning_rate=1e-3)`"
            )
        rule = tensorwise(
            lambda p: init_statistics(p, decays, state_dtype), lambda step: direction(theta, step)
        )
        return optax.chain(
            rule if vectors == "rule" else _with_adam_for_vectors(rule, vector_decays, vector_rate),
            optax.add_decayed_weights(weight_decay, weight_decay_mask),
            optax.scale_by_learning_rate(learning_rate),
        )

    constants = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "weight_decay_mask": weight_decay_mask,
        "newton_schulz_steps": newton_schulz_steps,
        "vectors": vectors,
        "vector_rate": vector_rate,
        "vector_decays": list(vector_decays),
        "hidden": list(hidden),
        "momentum_decays": list(momentum_decays),
        "second_moment_decays": list(second_moment_decays),
        "factored_decays": list(factored_decays),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer("normalized_mlp", constants, network.init, build, inputs)


def features(entries: Entries) -> list[jax.Array]:
    """The inputs of a tensor, by group."""
    groups = feature_groups(entries, ROOT_EPSILON)
    return [groups[name] for name in groups_of(entries)]


def groups_of(entries: Entries) -> tuple[str, ...]:
    """The groups of a tensor: all, or those that one of rank 0 or 1 has."""
    return CELO if entries.gradient.ndim > 2 else WITHOUT_ROWS


def _with_adam_for_vectors(
    rule: optax.GradientTransformationExtraArgs, decays: Sequence[float], rate: float
) -> optax.GradientTransformationExtraArgs:
    adam = optax.chain(optax.scale_by_adam(*decays), optax.scale(rate))
    return optax.partition(
        {"matrix": rule, "vector": adam},
        lambda params: jax.tree.map(
            lambda p: "matrix" if real_array(p).ndim > 1 else "vector", params
        ),
    )
