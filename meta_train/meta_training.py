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
Advance = Callable[..., tuple["MetaState", Metrics]]
EstimatorAt = Callable[[jax.Array], GradientEstimator]
"""The estimator of update k, an int32 that may be traced: episodes may grow longer with it."""

SUMMARY = (
    "meta_loss", "sign_gap", "signal_to_noise", "accumulator_norm", "age", "restarts", "diverged",
)  # fmt: skip
"""What `summarize` gives."""
MEANS = ("meta_gradient_norm", "theta_norm", *SUMMARY)
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
    ``compiled(state, key, data)`` is ``advance`` compiled ahead for such arguments; the arrays
    of the state may be `jax.ShapeDtypeStruct`.
    """

    init: Callable[[jax.Array], MetaState]
    advance: Any  # jitted
    compiled: Callable[[MetaState, jax.Array, Data], Advance]
    shardings: MetaState


class OuterStep(NamedTuple):
    """``init(θ, estimator's state) -> MetaState``; ``step(state, meta-gradient, summary) ->
    state``, all of it but the estimator's; ``metrics(state)`` of the row of the log so far.
    """

    init: Callable[[Theta, Any], MetaState]
    step: Callable[[MetaState, Theta, Metrics], MetaState]
    metrics: Callable[[MetaState], Metrics]


def outer_step(
    outer: optax.GradientTransformation,
    *,
    log_every: int = 10,
    gradient_limit: float = 1000.0,
    others: tuple[str, ...] = (),
) -> OuterStep:
    """The update of θ by a meta-gradient, by the equation and the rule at the top.

    ``log_every`` and ``gradient_limit`` are those of the configuration; ``others`` are names in
    the summary beside those of `summarize`.
    """

    def init(theta: Theta, estimator: Any) -> MetaState:
        return MetaState(
            step=jnp.zeros((), jnp.int32),
            theta=theta,
            outer=outer.init(theta),
            estimator=estimator,
            health=healthy(),
            row={name: jnp.zeros((), jnp.float32) for name in (*MEANS, *COUNTS, *others)},
        )

    def step(state: MetaState, gradient: Theta, summary: Metrics) -> MetaState:
        with jax.named_scope(OUTER):
            norm = optax.tree.norm(gradient)
            skip = is_harmful(norm, state.health, gradient_limit)
            updates, outer_state = outer.update(gradient, state.outer, state.theta)
            theta = unless(skip, optax.apply_updates(state.theta, updates), state.theta)
        metrics = {
            "meta_gradient_norm": norm,
            "theta_norm": optax.tree.norm(theta),
            "skipped_updates": skip.astype(jnp.float32),
            **summary,
        }
        begins = state.step % log_every == 0
        return MetaState(
            step=state.step + 1,
            theta=theta,
            outer=unless(skip, outer_state, state.outer),
            estimator=state.estimator,
            health=examined(state.health, norm, skip, summary["diverged"]),
            row={n: jnp.where(begins, 0, total) + metrics[n] for n, total in state.row.items()},
        )

    def metrics(state: MetaState) -> Metrics:
        updates = (state.step - 1) % log_every + 1
        row = {n: total if n in COUNTS else total / updates for n, total in state.row.items()}
        return row | {"longest_skipped": state.health.longest_skipped}

    return OuterStep(init, step, metrics)


def meta_training(
    init_theta: Callable[[jax.Array], Theta],
    estimator_at: EstimatorAt,
    outer: OuterStep,
    mesh: Mesh,
) -> MetaTraining:
    """Put an estimator and an outer step together on a mesh of devices."""
    whole = replicated(mesh)

    def init(key: jax.Array) -> MetaState:
        key_theta, key_estimator = jax.random.split(key)
        theta = init_theta(key_theta)
        first = estimator_at(jnp.zeros((), jnp.int32))
        return outer.init(theta, first.init(key_estimator, theta))

    shapes = jax.eval_shape(init, jax.random.key(0))
    shardings = jax.tree.map(lambda _: whole, shapes)
    shardings = shardings._replace(estimator=estimator_shardings(shapes.estimator, mesh))

    def update(state: MetaState, key: jax.Array, data: Data) -> MetaState:
        gradient, estimator_state, info = estimator_at(state.step).step(
            jax.random.fold_in(key, state.step), state.theta, state.estimator, data
        )
        return outer.step(state, gradient, summarize(info))._replace(estimator=estimator_state)

    def advance(
        state: MetaState, count: jax.Array, key: jax.Array, data: Data
    ) -> tuple[MetaState, Metrics]:
        state = jax.lax.fori_loop(0, count, lambda _, s: update(s, key, data), state)
        return state, outer.metrics(state)

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
