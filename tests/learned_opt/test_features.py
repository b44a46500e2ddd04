"""Statistics and features against what they are by definition."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import blocks
from learned_opt.features import groups, loss, running_loss, scales
from learned_opt.features.normalization import inverse_rms, inverse_rms_of_matrices
from learned_opt.features.statistics import (
    Decays,
    FactoredMoments,
    factored_axes,
    init_statistics,
    update_statistics,
)
from learned_opt.network import PerParameterMLP
from learned_opt.newton_schulz import orthogonalized
from learned_opt.tensors import round_to, update_tensors

DECAYS = Decays((0.9, 0.99), (0.95,), (0.5, 0.8))


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((), None), ((5,), None), ((4, 3), (1, 0)), ((3, 4), (0, 1)), ((3, 3), (0, 1)),
     ((3, 3, 4, 6), (2, 3)), ((7, 2, 7), (0, 2)), ((1, 1, 1), (1, 2))],
)  # fmt: skip
def test_the_two_largest_axes_are_factored_the_later_of_equals(shape, axes):
    assert factored_axes(shape) == axes


def test_statistics_are_weighted_sums_of_the_past():
    gradients = draw(6, 4, 3)
    of = init_statistics(gradients[0], DECAYS, "float32")
    for gradient in gradients:
        of = update_statistics(of, gradient, DECAYS)

    def weighted(values, beta):
        weights = (1 - beta) * beta ** np.arange(5, -1, -1)
        return np.tensordot(weights, np.asarray(values), axes=1)

    squares = np.square(gradients)
    for i, beta in enumerate(DECAYS.momentum):
        np.testing.assert_allclose(of.momenta[i], weighted(gradients, beta), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(of.second_moments[0], weighted(squares, 0.95), rtol=1e-5)
    for i, beta in enumerate(DECAYS.factored):  # the largest axis is the first
        row, column = weighted(squares.mean(1), beta), weighted(squares.mean(2), beta)
        np.testing.assert_allclose(of.squares.row[i, 0], row, rtol=1e-5)
        np.testing.assert_allclose(of.squares.column[i, :, 0], column, rtol=1e-5)


def test_a_matrix_of_rank_one_is_factored_exactly():
    rows, columns = jnp.abs(draw(6)) + 0.1, jnp.abs(draw(4, seed=1)) + 0.1
    gradient = jnp.sqrt(rows[:, None] * columns[None])
    decays = Decays((0.0,), (0.0,), (0.0,))
    of = update_statistics(init_statistics(gradient, decays, "float32"), gradient, decays)
    assert isinstance(of.squares, FactoredMoments)
    entries = groups.entries_of(gradient, gradient, of)
    found = groups.feature_groups(entries, epsilon=0.0)
    np.testing.assert_allclose(found["factored g"][0], jnp.ones((6, 4)), rtol=1e-4)
    np.testing.assert_allclose(found["factored m"][0], jnp.ones((6, 4)), rtol=1e-4)
    np.testing.assert_allclose(found["m/√v"][0], jnp.ones((6, 4)), rtol=1e-5)


def test_every_group_has_the_size_that_it_says():
    def of_gradient(gradient):
        start = init_statistics(gradient, DECAYS, "float32")
        of = update_statistics(start, gradient, DECAYS)
        return groups.feature_groups(groups.entries_of(gradient, gradient, of), 1e-6)

    for shape in [(), (3,), (4, 5), (2, 3, 4)]:
        found = jax.eval_shape(of_gradient, draw(*shape))
        assert {k: v.shape[0] for k, v in found.items()} == dict(groups.group_sizes(DECAYS))
        assert all(jnp.broadcast_shapes(v.shape[1:], shape) == shape for v in found.values())
    assert len(groups.input_names(groups.ADAFACTOR, groups.group_sizes(DECAYS))) == 20
    published = groups.group_sizes(Decays((0, 0, 0), (0,), (0, 0, 0)))
    assert len(groups.input_names(groups.ADAFACTOR, published)) == 28
    assert len(groups.input_names(groups.CELO, published)) == 30
    assert len(groups.input_names(groups.WITHOUT_ROWS, published)) == 15


def test_the_scale_of_a_constant_axis_is_that_of_the_whole_tensor():
    column = draw(2, 5, 1)
    whole = jnp.broadcast_to(column, (2, 5, 7))
    np.testing.assert_allclose(inverse_rms(column, 1e-5), inverse_rms(whole, 1e-5), rtol=1e-6)
    expected = 1 / np.sqrt(np.mean(np.square(whole), axis=(1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(inverse_rms(whole, 1e-5), expected, rtol=1e-6)
    four = draw(2, 3, 4, 5)
    expected = 1 / np.sqrt(np.mean(np.square(four), axis=(2, 3), keepdims=True) + 1e-9)
    np.testing.assert_allclose(inverse_rms_of_matrices(four, 1e-9), expected, rtol=1e-6)
    np.testing.assert_allclose(
        inverse_rms_of_matrices(draw(2), 0.0) * draw(2), [1, -1] * np.sign(draw(2)) * [1, -1]
    )


OTHER_DECAYS = Decays((0.9, 0.99), (0.95, 0.8), (0.5, 0.8))


@pytest.mark.parametrize("decays", [DECAYS, pytest.param(OTHER_DECAYS, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "shape", [pytest.param((5, 3), marks=pytest.mark.slow), (3, 5), (4, 2, 3), (2, 7, 4, 5)]
)
@pytest.mark.parametrize("scales_of", [scales.scales_of_tensor, scales.scales_of_matrices])
def test_scales_from_one_pass_are_those_of_the_features(scales_of, shape, decays, monkeypatch):
    gradient, parameter = draw(*shape), draw(*shape, seed=1)
    names = (*groups.CELO, *groups.ADAFACTOR)

    @jax.jit
    def scales_and_slopes(scale):
        def all_of(scale):
            of = init_statistics(gradient, decays, "float32")
            of = update_statistics(of, scale * gradient, decays)
            of = update_statistics(of, scale * parameter, decays)
            entries = groups.entries_of(scale * gradient, parameter, of)
            return scales_of(entries, names, moment_epsilon=1e-4, epsilon=1e-5)

        slopes = jax.jacrev(lambda s: [x.sum() for x in all_of(s)])(scale)
        return all_of(scale), slopes, jax.jvp(all_of, (scale,), (1.0,))[1]

    plain = scales_and_slopes(0.7)
    monkeypatch.setattr(scales, "splitting_pays", lambda entries, shape: True)
    scales_and_slopes.clear_cache()
    one_pass = scales_and_slopes(0.7)
    same = partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-4)
    jax.tree.map(same, one_pass, plain)


@pytest.mark.parametrize(
    ("shape", "once"), [((8, 4_096), True), ((8, 4_097), False), ((8, 100), False)]
)
def test_one_pass_is_for_large_tensors_whose_rows_are_not_too_long(shape, once):
    def of(x):
        statistics = update_statistics(init_statistics(x, DECAYS, "float32"), x, DECAYS)
        entries = groups.entries_of(x, x, statistics)
        return scales.scales_of_tensor(entries, groups.CELO, moment_epsilon=1e-4, epsilon=1e-5)

    assert ("reduce[" in str(jax.make_jaxpr(of)(jnp.zeros(shape)))) == once


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("block", [1, 4, 8])
def test_blocks_are_the_whole(shape, block):
    whole = draw(3, *shape)
    column = whole[:2].mean(axis=-1, keepdims=True) if shape else whole[:2]

    def function(arrays):
        x, y = arrays
        return jnp.stack([x[0] * y[1], x[2] - y[0]])

    np.testing.assert_array_equal(
        blocks.over_blocks(function, (whole, column), shape, block), function((whole, column))
    )


def test_blocks_are_differentiable():
    x = draw(1, 9, 2)

    def loss(x, block):
        return blocks.over_blocks(lambda a: jnp.sin(a[0]), x, (9, 2), block).sum()

    np.testing.assert_allclose(jax.grad(loss)(x, 4), jnp.cos(x), rtol=1e-6)


def test_small_tensors_of_one_shape_are_updated_together_and_large_ones_are_not():
    calls = []

    def update_one(gradient, parameter, state):
        calls.append(gradient.shape)
        return -gradient * parameter.sum(), state + 1

    params = {"a": draw(3), "b": draw(3, seed=1), "c": draw(70, 70), "d": draw(70, 70, seed=1)}
    params |= {"e": jnp.zeros((0, 2)), "f": draw(3, seed=2).astype(jnp.bfloat16)}
    states = {name: jnp.zeros(()) for name in params}
    updates, after = update_tensors(update_one, params, states, params)
    assert sorted(calls) == [(3,), (70, 70), (70, 70)]
    for name, p in params.items():
        expected = -np.float32(p) * np.float32(p).sum()
        np.testing.assert_allclose(np.float32(updates[name]), expected, rtol=1e-2, atol=1e-4)
        assert updates[name].dtype == p.dtype
        assert after[name] == (0 if p.size == 0 else 1)


def test_bfloat16_is_rounded_without_bias():
    """A running mean with a decay of 0.999 gets where it should, which rounding to the nearest
    keeps it from.
    """

    def last(rounded, steps=4_000):
        def body(step, m):
            new = 0.999 * m.astype(jnp.float32) + 0.001 * 1.0
            return rounded(new, step)

        return jax.lax.fori_loop(0, steps, body, jnp.full(2_000, 0.25, jnp.bfloat16))

    stochastic = last(lambda x, step: round_to(x, "bfloat16", step))
    nearest = last(lambda x, step: x.astype(jnp.bfloat16))
    assert np.float32(nearest).mean() < 0.6
    exact = 1 - 0.75 * 0.999**4_000
    assert np.float32(stochastic).mean() == pytest.approx(exact, abs=0.01)
    values = draw(50_000)
    error = np.float32(round_to(values, "bfloat16", jnp.int32(3))) - values
    assert abs(np.mean(error * np.sign(values))) < 4 * np.std(error) / 50_000**0.5
    special = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan, 0.0])
    np.testing.assert_array_equal(np.float32(round_to(special, "bfloat16", jnp.int32(0))), special)
    assert round_to(values, "float32", jnp.int32(0)) is values


def test_orthogonalized_singular_values_are_about_one():
    for shape in [(6, 4), (4, 6), (3, 5, 5)]:
        x = draw(*shape)
        values = np.linalg.svd(orthogonalized(x, 5), compute_uv=False)
        assert ((values > 0.6) & (values < 1.25)).all()
        optax_own = optax.contrib.muon(1.0, nesterov=False, beta=0.0)
    for shape in [(6, 4), (4, 6)]:  # against the implementation of optax
        x = {"x": draw(*shape)}
        scaled, _ = optax_own.update(x, optax_own.init(x), x)
        factor = max(1, shape[1] / shape[0]) ** 0.5
        np.testing.assert_allclose(-scaled["x"] / factor, orthogonalized(x["x"], 5), atol=0.02)


def test_loss_features_follow_the_loss():
    decays = loss.loss_decays(jnp.float32(1_000))
    np.testing.assert_allclose(-1 / np.log(decays), np.geomspace(10, 1_000, 10), rtol=1e-3)

    def after(losses):
        history = loss.no_losses()
        for step, value in enumerate(losses):
            history = loss.add_loss(history, jnp.float32(value), jnp.int32(step), decays)
        return loss.loss_features(history, jnp.int32(len(losses)), decays)

    assert not after([2.0, 1.0]).any()
    falling, rising = after(np.linspace(2, 1, 60)), after([*np.linspace(2, 1, 40), *[1.8] * 20])
    np.testing.assert_allclose(falling, -1, atol=1e-3)  # the mean is its own minimum
    assert (rising > falling).all()
    bounded = after([1.0] * 10 + [1e9])
    assert np.isfinite(bounded).all()
    np.testing.assert_allclose(bounded, after([1.0] * 10 + [2.0]), atol=1e-5)


def test_a_loss_is_standardized_by_its_past():
    running = running_loss.no_loss()
    assert running_loss.corrected_mean(running, 0.9) == 0
    values = np.asarray([3.0, 1.0, 2.0, 2.5])
    for value in values:
        running = running_loss.with_loss(running, jnp.float32(value), 0.9)
    weights = 0.1 * 0.9 ** np.arange(3, -1, -1)
    mean = (weights * values).sum() / weights.sum()
    np.testing.assert_allclose(running_loss.corrected_mean(running, 0.9), mean, rtol=1e-5)
    assert running_loss.standardized(running, jnp.float32(1e9), 0.9) == 5
    assert running_loss.standardized(running, jnp.float32(mean), 0.9) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("shape", [(), (6,), (4, 3), (2, 3, 4)])
def test_both_forms_of_the_network_are_the_mlp_on_every_entry(shape, monkeypatch):
    """Scales, constant axes and shared inputs included; against a plain product by hand."""
    import haiku as hk

    sizes, hidden = (2, 1, 3), (4, 3)
    function = hk.without_apply_rng(
        hk.transform(lambda *args: PerParameterMLP(sum(sizes), hidden, 2)(*args))
    )
    features = [draw(2, *shape), draw(1, *shape, seed=1), draw(3, *[1] * len(shape), seed=2)]
    if shape:
        features[1] = features[1].mean(axis=-1, keepdims=True)
    factors = [1 + draw(2, *[1] * len(shape), seed=3), None, None]
    theta = jax.tree.map(
        lambda x: x + 0.3, function.init(jax.random.key(0), [jnp.zeros((6, 1))], [None])
    )
    scaled = [f if s is None else f * s for f, s in zip(features, factors, strict=True)]
    inputs = jnp.concatenate([jnp.broadcast_to(f, (f.shape[0], *shape)) for f in scaled])
    rows = inputs.reshape(6, -1).T
    for i in range(3):
        layer = theta[f"mlp/~/linear_{i}"]
        rows = rows @ layer["w"] + layer["b"][None]
        rows = jax.nn.relu(rows) if i < 2 else rows
    expected = rows.T.reshape(2, *shape)
    products = function.apply(theta, features, factors)
    np.testing.assert_allclose(jnp.stack(products), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("learned_opt.network.BLOCK", 0)
    written_out = function.apply(theta, features, factors)
    np.testing.assert_allclose(jnp.stack(written_out), expected, rtol=1e-4, atol=1e-5)
