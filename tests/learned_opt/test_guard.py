"""The safety net: what it skips, bounds and hands over, what it counts, and what it leaves be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.guard import GuardCounts
from tests.learned_opt.rules_table import ROWS, build, quick_jit, small

ONES = {"w": jnp.ones(4), "b": jnp.ones(())}


def parabola(params):
    return sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params))


def train(tx, steps, *, params=ONES, losses=None, broken=()):
    """Parameters, losses and the last state; ``losses`` are told instead of the real ones, and
    the gradients of the steps ``broken`` are not finite.
    """

    @jax.jit
    def step(carry, inputs):
        told, is_broken = inputs
        params, state = carry
        loss, grads = jax.value_and_grad(parabola)(params)
        loss = loss if losses is None else told
        grads = jax.tree.map(lambda g: jnp.where(is_broken, jnp.nan, g), grads)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), (loss, params)

    told = jnp.zeros(steps) if losses is None else jnp.asarray(losses, jnp.float32)
    flags = jnp.isin(jnp.arange(steps), jnp.asarray(broken or [-1]))
    (params, state), (seen, history) = jax.lax.scan(step, (params, tx.init(params)), (told, flags))
    return params, np.asarray(seen), state, history


def counts(state):
    return {name: int(n) for name, n in state.counts._asdict().items() if n}


def test_what_goes_well_is_left_alone():
    guarded = train(learned_opt.guard(optax.adam(0.01)), 300)
    plain = train(optax.with_extra_args_support(optax.adam(0.01)), 300)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), guarded[0], plain[0])
    assert counts(guarded[2]) == {"watched": 300}
    assert guarded[2].since == -1


def test_an_update_that_is_not_finite_is_skipped_with_all_its_states():
    params, _, state, history = train(learned_opt.guard(optax.adam(0.01)), 20, broken=(4, 5))
    plain, *_ = train(optax.with_extra_args_support(optax.adam(0.01)), 18)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, plain)
    np.testing.assert_array_equal(history["w"][4], history["w"][6])
    assert counts(state) == {"skipped": 2, "watched": 18}
    losses = np.ones(20)
    losses[7] = np.inf
    assert counts(train(learned_opt.guard(optax.adam(0.01)), 20, losses=losses)[2])["skipped"] == 1


def test_the_root_mean_square_of_a_tensors_update_is_bounded():
    tx = learned_opt.guard(optax.sgd(10.0), max_update_rms=0.05, spike=None, stall_steps=None)
    grads = {"w": jnp.asarray([3.0, -1.0, 0.0, 2.0]), "b": jnp.asarray(1e-3)}
    updates, state = tx.update(grads, tx.init(ONES), ONES, value=1.0)
    assert np.sqrt(np.mean(np.square(updates["w"]))) == pytest.approx(0.05)
    np.testing.assert_allclose(updates["w"] / updates["w"][0], grads["w"] / 3, rtol=1e-6)
    assert updates["b"] == pytest.approx(-0.01)
    assert counts(state) == {"bounded": 1, "watched": 1}
    free = learned_opt.guard(optax.sgd(10.0), max_update_rms=None)
    assert free.update(grads, free.init(ONES), ONES, value=1.0)[0]["w"][0] == -30


def test_a_spike_hands_over_to_the_fallback():
    falling = np.linspace(2.0, 1.0, 60)
    risen = [*falling, *[1.7] * 30]
    tx = learned_opt.guard(optax.sgd(0.0), fallback=optax.sgd(0.25), max_update_rms=None)
    params, _, state, history = train(tx, 90, losses=risen)
    found = counts(state)
    assert found["spikes"] == 1
    assert 10 < found["fallback"] < 25  # a smoothed loss takes some steps to rise
    moved = np.flatnonzero(np.abs(np.diff(np.asarray(history["w"][:, 0]))))
    assert len(moved) == found["fallback"] - 1
    assert moved[0] >= 60
    np.testing.assert_allclose(params["w"], 0.5 ** found["fallback"], rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_noise_around_a_falling_or_level_loss_is_no_spike(noise, seed):
    normal = np.random.default_rng(seed).normal(size=800)
    for trend in (np.geomspace(2.0, 0.5, 800), np.full(800, 2.0)):
        tx = learned_opt.guard(optax.sgd(0.0), stall_steps=None)
        assert "spikes" not in counts(train(tx, 800, losses=trend + noise * normal)[2])


def test_a_loss_that_rises_from_the_start_is_a_spike_as_soon_as_losses_are_judged():
    found = counts(train(learned_opt.guard(optax.sgd(0.0)), 40, losses=np.geomspace(1, 100, 40))[2])
    assert found["spikes"] == 1
    assert found["fallback"] == 20


def test_a_stall_hands_over_and_progress_does_not():
    level = np.concatenate([np.linspace(2, 1, 100), np.full(400, 1.0)])
    found = counts(train(learned_opt.guard(optax.sgd(0.0), stall_steps=100), 500, losses=level)[2])
    assert found["stalls"] == 1
    assert 180 <= found["fallback"] <= 310
    slow = np.geomspace(2, 1, 500)
    found = counts(train(learned_opt.guard(optax.sgd(0.0), stall_steps=100), 500, losses=slow)[2])
    assert found == {"watched": 500}


def test_an_optimizer_that_breaks_is_replaced_at_once():
    breaks = optax.stateless(lambda updates, _: jax.tree.map(lambda u: u / 0.0, updates))
    params, losses, state, _ = train(learned_opt.guard(breaks), 300)
    assert counts(state) == {"broken": 1, "fallback": 300, "watched": 300}
    assert losses[-1] < 0.7 * losses[0]
    assert np.isfinite(params["w"]).all()


def test_the_optimizer_is_tried_again_from_its_first_state():
    tx = learned_opt.guard(optax.sgd(0.0, momentum=0.9), stall_steps=50, retry_after=20)
    _, _, state, _ = train(tx, 150, losses=np.ones(150))
    found = counts(state)
    assert found["stalls"] == 2
    assert found["fallback"] == 40
    assert state.since == -1
    assert state.watch.losses == 150 - 2 * 69  # counted anew after each


def test_without_a_loss_nothing_is_watched_and_the_rest_goes_on():
    tx = learned_opt.guard(optax.adam(0.01))
    updates, state = tx.update(ONES, tx.init(ONES), ONES)
    assert counts(state) == {}
    assert updates["w"][0] == pytest.approx(-0.01, rel=1e-4)
    with pytest.raises(ValueError, match="`params`=None"):
        tx.update(ONES, tx.init(ONES))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"max_update_rms": 0.0}, "max_update_rms"), ({"spike": -1.0}, "spike"),
     ({"stall": float("nan")}, "stall"), ({"stall_steps": 0}, "stall_steps"),
     ({"retry_after": 2.5}, "retry_after")],
)  # fmt: skip
def test_arguments_out_of_range_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`="):
        learned_opt.guard(optax.sgd(0.1), **arguments)


@pytest.mark.parametrize(
    "name",
    [
        "normalized_mlp",
        pytest.param("scheduled_mlp", marks=pytest.mark.slow),
        pytest.param("rnn_mlp", marks=pytest.mark.slow),
    ],
)
def test_it_goes_around_learned_optimizers_and_into_the_transformations_of_optax(name):
    own = build(ROWS[name])
    tx = optax.chain(optax.clip_by_global_norm(1e9), learned_opt.guard(own, max_update_rms=10.0))
    params = small()
    plain = own.update(params, own.init(params), params, value=1.0)[0]
    updates, state = quick_jit(tx.update)(params, tx.init(params), params, value=1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), updates, plain)
    assert state[1].counts._asdict().keys() == set(GuardCounts._fields)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    shapes = jax.eval_shape(tx.update, half, tx.init(half), half, value=1.0)[0]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}
    many = jax.tree.map(lambda p: jnp.stack([p, jnp.nan * p]), params)
    states = jax.vmap(tx.init)(many)
    _, states = quick_jit(jax.vmap(lambda g, s, p: tx.update(g, s, p, value=1.0)))(
        many, states, many
    )
    np.testing.assert_array_equal(states[1].counts.skipped, [0, 1])
