"""Meta-training as pure functions: a state, and one compiled call that advances it.

g_k, e_k = estimator.step(fold_in(key, k), θ_k, e_{k−1}, data)
θ_{k+1} = θ_k + outer update(g_k),    or θ_k where g_k explodes: see `health`
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from meta_train.estimators import EstimatorInfo, GradientEstimator
from meta_train.health import Health, examined, healthy, is_harmful, unless
from meta_train.parallel import replicated, split_leading
from meta_train.problem import Data, Theta

Metrics = Mapping[str, jax.Array]

MEANS = (
    "meta_gradient_norm", "theta_norm", "meta_loss", "sign_gap", "signal_to_noise",
    "accumulator_norm", "age", "restarts", "diverged",
)  # fmt: skip
COUNTS = ("skipped_updates",)
METRICS = (*MEANS, *COUNTS, "longest_skipped")
"""What a row of the log has: means over its updates; numbers of them; and the most updates
that were skipped in a row, in the whole run so far."""

OUTER = "outer"
"""Name of the outer step among the operations of a compiled program."""


class MetaState(NamedTuple):
    """All that training changes, and so the whole checkpoint.

    ``step``: updates of θ, those that were skipped too, int32; the key of update k is
    ``fold_in(root, k)``. ``row``: sums of the metrics since the last row of the log, which
    may be stopped in its middle.
    """

    step: jax.Array
    theta: Theta
    outer: Any
    estimator: Any
    health: Health
    row: Metrics


class MetaTraining(NamedTuple):
    """``init(key) -> MetaState``; ``advance(state, count, key, data) -> (state, metrics)``.

    ``advance`` makes ``count`` updates and takes over the buffers of the state. Its metrics
    are `METRICS` over the row of the log so far, a row being ``log_every`` updates. Any count
    is the same program, and k updates in one call are bit for bit those of several.
    """

    init: Callable[[jax.Array], MetaState]
    advance: Any  # jitted: it can also be lowered and compiled ahead
    shardings: MetaState


def meta_training(
    init_theta: Callable[[jax.Array], Theta],
    estimator: GradientEstimator,
    outer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    log_every: int = 10,
    gradient_limit: float = 1000.0,
) -> MetaTraining:
    """Put an estimator and an outer optimizer together on a mesh of devices.

    ``log_every`` and ``gradient_limit`` are those of the configuration.
    """
    whole = replicated(mesh)

    def init(key: jax.Array) -> MetaState:
        key_theta, key_estimator = jax.random.split(key)
        theta = init_theta(key_theta)
        return MetaState(
            step=jnp.zeros((), jnp.int32),
            theta=theta,
            outer=outer.init(theta),
            estimator=estimator.init(key_estimator, theta),
            health=healthy(),
            row={name: jnp.zeros((), jnp.float32) for name in (*MEANS, *COUNTS)},
        )

    shapes = jax.eval_shape(init, jax.random.key(0))
    shardings = jax.tree.map(lambda _: whole, shapes)
    split = jax.tree.map(lambda _: split_leading(mesh), shapes.estimator.inner)
    shardings = shardings._replace(estimator=shardings.estimator._replace(inner=split))

    def update(state: MetaState, key: jax.Array, data: Data) -> MetaState:
        gradient, estimator_state, info = estimator.step(
            jax.random.fold_in(key, state.step), state.theta, state.estimator, data
        )
        with jax.named_scope(OUTER):
            norm = optax.tree.norm(gradient)
            skip = is_harmful(norm, state.health, gradient_limit)
            updates, outer_state = outer.update(gradient, state.outer, state.theta)
            theta = unless(skip, optax.apply_updates(state.theta, updates), state.theta)
        metrics = {
            "meta_gradient_norm": norm,
            "theta_norm": optax.tree.norm(theta),
            "skipped_updates": skip.astype(jnp.float32),
            **summarize(info),
        }
        begins = state.step % log_every == 0
        return MetaState(
            step=state.step + 1,
            theta=theta,
            outer=unless(skip, outer_state, state.outer),
            estimator=estimator_state,
            health=examined(state.health, norm, skip, info.diverged),
            row={n: jnp.where(begins, 0, total) + metrics[n] for n, total in state.row.items()},
        )

    def advance(
        state: MetaState, count: jax.Array, key: jax.Array, data: Data
    ) -> tuple[MetaState, Metrics]:
        state = jax.lax.fori_loop(0, count, lambda _, s: update(s, key, data), state)
        updates = (state.step - 1) % log_every + 1
        metrics = {name: state.row[name] / updates for name in MEANS}
        metrics |= {name: state.row[name] for name in COUNTS}
        return state, metrics | {"longest_skipped": state.health.longest_skipped}

    return MetaTraining(
        jax.jit(init, out_shardings=shardings),
        jax.jit(
            advance,
            donate_argnames="state",
            in_shardings=(shardings, whole, whole, whole),
            out_shardings=(shardings, whole),
        ),
        shardings,
    )


def summarize(info: EstimatorInfo) -> Metrics:
    """Scalars of a window for the log.

    ``meta_loss``: mean loss of an inner step over the rows that count (in the unit of the
    window loss), not a number where none counts; ``sign_gap``: mean |L⁺ − L⁻|, likewise;
    ``age``: mean inner steps of the episodes; ``restarts``, ``diverged``: numbers of rows;
    the others as in `EstimatorInfo`, means over rows where there are several.
    """
    finite = jnp.isfinite(info.losses).all(axis=1)
    count = finite.sum()
    return {
        "meta_loss": jnp.where(finite, info.losses.mean(axis=1), 0).sum() / count,
        "sign_gap": jnp.where(finite, info.sign_gap, 0).sum() / count,
        "signal_to_noise": info.signal_to_noise,
        "accumulator_norm": info.accumulator_norm.mean(),
        "age": info.ages.mean(),
        "restarts": info.restarts.astype(jnp.float32),
        "diverged": info.diverged.astype(jnp.float32),
    }
