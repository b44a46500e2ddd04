"""Meta-training as pure functions: a state, and one compiled call that advances it.

g_k, e_k = estimator.step(fold_in(key, k), θ_k, e_{k−1}, data)
θ_{k+1} = θ_k + outer update(g_k)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from meta_train.estimators import EstimatorInfo, GradientEstimator
from meta_train.parallel import replicated, split_leading
from meta_train.problem import Data, Theta

Metrics = Mapping[str, jax.Array]
Advance = Callable[..., tuple["MetaState", Metrics]]
EstimatorAt = Callable[[jax.Array], GradientEstimator]
"""The estimator of update k, an int32 that may be traced: episodes may grow longer with it."""

SUMMARY = (
    "meta_loss", "sign_gap", "signal_to_noise", "accumulator_norm", "age", "restarts", "diverged",
)  # fmt: skip
"""What `summarize` gives."""

OUTER = "outer"
"""Name of the outer step among the operations of a compiled program."""


class MetaState(NamedTuple):
    """All that training changes, and so the whole checkpoint.

    ``step``: updates of θ made, int32; the key of update k is ``fold_in(root, k)``.
    """

    step: jax.Array
    theta: Theta
    outer: Any
    estimator: Any


class MetaTraining(NamedTuple):
    """``init(key) -> MetaState``; ``advance(state, count, key, data) -> (state, metrics)``.

    ``advance`` makes ``count`` updates, gives the mean of each metric over them, and takes
    over the buffers of the state. Any count is the same program, and k updates in one call
    are bit for bit those of several. ``compiled(state, key, data)`` is ``advance`` compiled
    ahead for such arguments; the arrays of the state may be `jax.ShapeDtypeStruct`.
    """

    init: Callable[[jax.Array], MetaState]
    advance: Any  # jitted
    compiled: Callable[[MetaState, jax.Array, Data], Advance]
    shardings: MetaState


def meta_training(
    init_theta: Callable[[jax.Array], Theta],
    estimator_at: EstimatorAt,
    outer: optax.GradientTransformation,
    mesh: Mesh,
) -> MetaTraining:
    """Put an estimator and an outer optimizer together on a mesh of devices."""
    estimator = estimator_at(jnp.zeros((), jnp.int32))
    whole = replicated(mesh)

    def init(key: jax.Array) -> MetaState:
        key_theta, key_estimator = jax.random.split(key)
        theta = init_theta(key_theta)
        return MetaState(
            jnp.zeros((), jnp.int32), theta, outer.init(theta), estimator.init(key_estimator, theta)
        )

    shapes = jax.eval_shape(init, jax.random.key(0))
    shardings = jax.tree.map(lambda _: whole, shapes)
    shardings = shardings._replace(estimator=estimator_shardings(shapes.estimator, mesh))

    def update(state: MetaState, key: jax.Array, data: Data) -> tuple[MetaState, Metrics]:
        gradient, estimator_state, info = estimator_at(state.step).step(
            jax.random.fold_in(key, state.step), state.theta, state.estimator, data
        )
        after, metrics = outer_step(outer, state, gradient)
        return after._replace(estimator=estimator_state), {**metrics, **summarize(info)}

    def advance(
        state: MetaState, count: jax.Array, key: jax.Array, data: Data
    ) -> tuple[MetaState, Metrics]:
        names = jax.eval_shape(update, state, key, data)[1]
        zeros = {name: jnp.zeros((), jnp.float32) for name in names}

        def body(_: jax.Array, carry: tuple[MetaState, Metrics]) -> tuple[MetaState, Metrics]:
            state, sums = carry
            state, metrics = update(state, key, data)
            return state, {name: total + metrics[name] for name, total in sums.items()}

        state, sums = jax.lax.fori_loop(0, count, body, (state, zeros))
        return state, {name: total / count for name, total in sums.items()}

    jitted = jax.jit(
        advance,
        donate_argnames="state",
        in_shardings=(shardings, whole, whole, whole),
        out_shardings=(shardings, whole),
    )

    def compiled(state: MetaState, key: jax.Array, data: Data) -> Advance:
        return jitted.lower(state, jax.ShapeDtypeStruct((), jnp.int32), key, data).compile()

    return MetaTraining(jax.jit(init, out_shardings=shardings), jitted, compiled, shardings)


def estimator_shardings(shapes: Any, mesh: Mesh) -> Any:
    """How the state of an estimator lies: ``inner`` split by rows, the rest whole."""
    split = jax.tree.map(lambda _: split_leading(mesh), shapes.inner)
    return jax.tree.map(lambda _: replicated(mesh), shapes)._replace(inner=split)


def outer_step(
    outer: optax.GradientTransformation, state: MetaState, gradient: Theta
) -> tuple[MetaState, Metrics]:
    """The update of θ by a meta-gradient, and its metrics."""
    with jax.named_scope(OUTER):
        updates, outer_state = outer.update(gradient, state.outer, state.theta)
        theta = optax.apply_updates(state.theta, updates)
    metrics = {
        "meta_gradient_norm": optax.tree.norm(gradient),
        "theta_norm": optax.tree.norm(theta),
    }
    return state._replace(step=state.step + 1, theta=theta, outer=outer_state), metrics


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
