"""A safety net around an optimizer: what goes wrong is skipped, bounded, handed over, and counted.

With ŝ the running mean of the loss L (decay 0.9, its start corrected), b its least value so far,
L₀ the first loss and ā the running mean of the change of L from one update to the next when b was
found, the net hands over to a hand-designed optimizer when

    spike    ŝ − b > spike·(L₀ − b) + 2ā                       the loss gives back what it had won
    stall    b fell by less than stall·(L₀ − b) in the last stall_steps updates
    broken   the optimizer makes an update that is not finite of gradients that are
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.constants import check_positive, check_whole
from learned_opt.tensors import required

DECAY = 0.9
NOISE = 2.0
WARMUP = 20
ROUNDING = 1e-6
FALLBACK_RATE = 1e-3


class GuardCounts(NamedTuple):
    """What the net did, int32 each: updates ``skipped`` for gradients or a loss that are not
    finite, and ``bounded`` in at least one tensor; hand-overs for ``spikes``, ``stalls`` and
    ``broken`` updates; updates made by the ``fallback``; losses ``watched``.
    """

    skipped: jax.Array
    bounded: jax.Array
    spikes: jax.Array
    stalls: jax.Array
    broken: jax.Array
    fallback: jax.Array
    watched: jax.Array


class LossWatch(NamedTuple):
    """Of the losses so far: their number, the first, the last, running means of L and of its
    changes before the correction of their start, b and ā; and b as it was at the last look for a
    stall, and when.
    """

    losses: jax.Array
    first: jax.Array
    last: jax.Array
    mean: jax.Array
    noise: jax.Array
    best: jax.Array
    quiet: jax.Array
    marked_best: jax.Array
    marked: jax.Array


class GuardState(NamedTuple):
    """``inner``, ``fallback``: states of the two optimizers; ``since``: updates since the
    hand-over, −1 where there was none; ``watch``: of the loss; ``counts``: for people.
    """

    inner: Any
    fallback: Any
    since: jax.Array
    watch: LossWatch
    counts: GuardCounts


def guard(
    tx: optax.GradientTransformation,
    *,
    fallback: optax.GradientTransformation | None = None,
    max_update_rms: float | None = 0.1,
    spike: float | None = 0.5,
    stall: float = 1e-3,
    stall_steps: int | None = 1_000,
    retry_after: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The safety net at the top of this file around ``tx``.

    An update whose gradients, or whose loss, are not finite is skipped: parameters and states
    stay as they are. Without ``value`` the loss is not watched.

    Args:
      tx: any optimizer, a learned one or another.
      fallback: what takes over; `optax.adam` at 0.001 by default. It begins afresh then.
      max_update_rms: bound of the root mean square of a tensor's update; None for no bound.
      spike: share of what the loss had fallen by that it may rise again, after the first 20
        losses; None never calls it a spike.
      stall: share of what the loss had fallen by that it has to fall by in ``stall_steps``.
      stall_steps: updates between two looks for a stall; None never looks.
      retry_after: updates after which ``tx`` is tried again, from its first state and with no
        memory of the losses; None stays with the fallback.

    Raises:
      ValueError: an argument is out of its range.
    """
    for name, value in (("max_update_rms", max_update_rms), ("spike", spike), ("stall", stall)):
        if value is not None:
            check_positive(**{name: value})
    for name, count in (("stall_steps", stall_steps), ("retry_after", retry_after)):
        if count is not None:
            check_whole(1, 2**31 - 1, **{name: count})
    optimizer = optax.with_extra_args_support(tx)
    substitute = optax.with_extra_args_support(fallback or optax.adam(FALLBACK_RATE))

    def init(params: optax.Params) -> GuardState:
        zeros = (jnp.zeros((), jnp.int32) for _ in GuardCounts._fields)
        return GuardState(
            inner=optimizer.init(params),
            fallback=substitute.init(params),
            since=jnp.full((), -1, jnp.int32),
            watch=_no_losses(),
            counts=GuardCounts(*zeros),
        )

    def update(
        updates: optax.Updates,
        state: GuardState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, GuardState]:
        params = required(params)
        value = extra_args.get("value")
        loss = None if value is None else jnp.asarray(value, jnp.float32)
        finite = _all_finite(updates) & (True if loss is None else jnp.isfinite(loss))
        watched, after = (jnp.bool_(False), state)
        if loss is not None:
            after, watched = _watch(state, loss, spike, stall, stall_steps), jnp.bool_(True)

        def active() -> tuple[optax.Updates, GuardState]:
            steps, acted = _act(optimizer, substitute, updates, after, params, extra_args)
            steps, bounded = _bounded(steps, max_update_rms)
            counts = acted.counts._replace(
                bounded=acted.counts.bounded + bounded, watched=acted.counts.watched + watched
            )
            acted = acted._replace(counts=counts)
            return steps, _retried(acted, retry_after, init, params)

        def skipped() -> tuple[optax.Updates, GuardState]:
            counts = state.counts._replace(skipped=state.counts.skipped + 1)
            return _zeros_like(params), state._replace(counts=counts)

        return jax.lax.cond(finite, active, skipped)

    return optax.GradientTransformationExtraArgs(init, update)


def _no_losses() -> LossWatch:
    number, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
    return LossWatch(number, zero, zero, zero, zero, jnp.full((), jnp.inf), zero, zero, number)


def _watch(
    state: GuardState,
    loss: jax.Array,
    spike: float | None,
    stall: float,
    stall_steps: int | None,
) -> GuardState:
    """The state with one more loss in its watch, and with a hand-over where that calls for one."""
    watch = with_loss(state.watch, loss)
    fallen = watch.first - watch.best
    rounding = ROUNDING * jnp.abs(watch.best)
    spikes = stalls = jnp.bool_(False)
    if spike is not None:
        allowed = spike * fallen + NOISE * watch.quiet + rounding
        spikes = (watch.losses > WARMUP) & (smoothed(watch) - watch.best > allowed)
    if stall_steps is not None:
        due = watch.losses - watch.marked >= stall_steps
        stalls = due & (watch.marked_best - watch.best <= stall * fallen + rounding)
        watch = watch._replace(
            marked=jnp.where(due, watch.losses, watch.marked),
            marked_best=jnp.where(due, watch.best, watch.marked_best),
        )
    in_charge = state.since < 0
    spikes, stalls = in_charge & spikes, in_charge & stalls & ~spikes
    counts = state.counts._replace(
        spikes=state.counts.spikes + spikes, stalls=state.counts.stalls + stalls
    )
    since = jnp.where(spikes | stalls, 0, state.since)
    return state._replace(watch=watch, counts=counts, since=since)


def with_loss(watch: LossWatch, loss: jax.Array) -> LossWatch:
    """The watch with one more loss."""
    is_first = watch.losses == 0
    change = jnp.where(is_first, 0.0, jnp.abs(loss - watch.last))
    after = watch._replace(
        losses=watch.losses + 1,
        first=jnp.where(is_first, loss, watch.first),
        last=loss,
        mean=DECAY * watch.mean + (1 - DECAY) * loss,
        noise=DECAY * watch.noise + (1 - DECAY) * change,
    )
    now = smoothed(after)
    better = now < watch.best
    correction = 1 - DECAY ** jnp.maximum(after.losses - 1, 1).astype(jnp.float32)
    return after._replace(
        best=jnp.minimum(now, watch.best),
        quiet=jnp.where(better, after.noise / correction, watch.quiet),
        marked_best=jnp.where(is_first, loss, watch.marked_best),
    )


def smoothed(watch: LossWatch) -> jax.Array:
    """ŝ; 0 before the first loss."""
    losses = jnp.maximum(watch.losses, 1).astype(jnp.float32)
    return watch.mean / (1 - DECAY**losses)


def _act(
    optimizer: optax.GradientTransformationExtraArgs,
    substitute: optax.GradientTransformationExtraArgs,
    updates: optax.Updates,
    state: GuardState,
    params: optax.Params,
    extra_args: dict[str, Any],
) -> tuple[optax.Updates, GuardState]:
    """The update of whoever is in charge; of the substitute where the optimizer breaks."""

    def by_substitute(since: jax.Array) -> tuple[optax.Updates, GuardState]:
        steps, own = substitute.update(updates, state.fallback, params, **extra_args)
        counts = state.counts._replace(fallback=state.counts.fallback + 1)
        return _like(steps, params), state._replace(fallback=own, since=since + 1, counts=counts)

    def by_optimizer() -> tuple[optax.Updates, GuardState]:
        steps, inner = optimizer.update(updates, state.inner, params, **extra_args)

        def broken() -> tuple[optax.Updates, GuardState]:
            steps, after = by_substitute(jnp.zeros((), jnp.int32))
            counts = after.counts._replace(broken=after.counts.broken + 1)
            return steps, after._replace(counts=counts)

        return jax.lax.cond(
            _all_finite(steps),
            lambda: (_like(steps, params), state._replace(inner=inner)),
            broken,
        )

    return jax.lax.cond(state.since < 0, by_optimizer, lambda: by_substitute(state.since))


def _retried(
    state: GuardState,
    retry_after: int | None,
    init: Callable[[optax.Params], GuardState],
    params: optax.Params,
) -> GuardState:
    """The state; a new one with the same counts where ``tx`` is to be tried again."""
    if retry_after is None:
        return state
    fresh = init(params)._replace(counts=state.counts)
    again = state.since >= retry_after
    return jax.tree.map(lambda new, old: jnp.where(again, new, old), fresh, state)


def _bounded(updates: optax.Updates, largest: float | None) -> tuple[optax.Updates, jax.Array]:
    """Updates whose RMS is at most ``largest`` in every tensor, and whether one had to be cut."""
    if largest is None:
        return updates, jnp.bool_(False)
    cut = [jnp.bool_(False)]

    def one(update: jax.Array) -> jax.Array:
        if update.size == 0:
            return update
        rms = jnp.sqrt(jnp.mean(jnp.square(update.astype(jnp.float32))))
        cut.append(rms > largest)
        return (update * jnp.minimum(1.0, largest / rms)).astype(update.dtype)

    bounded = jax.tree.map(one, updates)
    return bounded, jnp.stack(cut).any()


def _all_finite(tree: Any) -> jax.Array:
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.bool_(True), *leaves]).all()


def _zeros_like(params: optax.Params) -> optax.Updates:
    return jax.tree.map(jnp.zeros_like, params)


def _like(updates: optax.Updates, params: optax.Params) -> optax.Updates:
    """In the dtypes of the parameters, whoever made them."""
    return jax.tree.map(lambda u, p: u.astype(jnp.result_type(p)), updates, params)
