"""Training a classifier with a schedule, and with many hyperparameters, as unrolled problems."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators import ESTIMATORS
from meta_train.problems import learning_rate_schedule as schedules
from meta_train.problems.hyperparameters import (
    Hyperparameters,
    Ranges,
    draw_hyperparameters,
    gates,
    hyperparameters,
    logit,
)
from meta_train.problems.image_classifier import (
    accuracy,
    cross_entropy,
    init_training,
    logits,
)
from meta_train.problems.learning_rate_schedule import learning_rate, learning_rate_schedule
from tasks.images.families import draw_batch

STEPS = 8
WIDTH, HIDDEN, BATCH, CLASSES = 6, 2, 16, 3
SMALL = {"batch_size": BATCH, "pixels": 4, "classes": CLASSES}
OPEN = [jnp.ones((1, 1))] * HIDDEN


def images(seed, count=64):
    """Labels that the pixels decide, so that there is something to learn."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 255, (count, 2, 2, 1), np.uint8)
    return {
        "image": pixels,
        "label": pixels.reshape(count, 4)[:, :CLASSES].argmax(axis=1).astype(np.int32),
        "mean": np.full((1, 1, 1, 1), 127, np.float32),
        "std": np.full((1, 1, 1, 1), 73, np.float32),
    }


DATA = jax.tree.map(jnp.asarray, {"train": images(0), "inner_validation": images(1)})


@partial(jax.jit, static_argnums=(0, 3))
def unroll(problem, theta, key=0, steps=STEPS):
    """The state and the losses [steps] of one episode; the keys of its steps."""
    keys = jax.random.split(jax.random.key(key), steps)

    def step(state, key):
        return problem.step(key, theta, state, DATA)

    first = problem.init(jax.random.key(key + 1), theta)
    return *jax.lax.scan(step, first, keys), keys


@partial(jax.jit, static_argnums=1)
def with_optax(network, optimizer, keys):
    """The same training by optax, on the minibatches of the same keys; losses after updates."""

    def step(carry, key):
        network, state = carry
        key_update, key_objective = jax.random.split(key)
        batch = draw_batch(key_update, DATA["train"], BATCH)
        gradient = jax.grad(cross_entropy)(network, OPEN, batch)
        updates, state = optimizer.update(gradient, state, network)
        network = optax.apply_updates(network, updates)
        fresh = draw_batch(key_objective, DATA["train"], BATCH)
        return (network, state), cross_entropy(network, OPEN, fresh)

    (network, _), losses = jax.lax.scan(step, (network, optimizer.init(network)), keys)
    return network, losses


def same_for_all(rate, momentum, share, layers=HIDDEN + 1):
    return Hyperparameters(
        jnp.full((layers, 2), np.log(rate)),
        jnp.full((layers, 2), logit(momentum)),
        jnp.full(layers - 1, logit(share)),
    )


def test_the_schedule_is_inverse_time_decay():
    times = jnp.arange(0, 20_000, 2_500)
    theta = jnp.log(jnp.asarray([0.003, 30.0]))
    np.testing.assert_allclose(theta, schedules.START, rtol=1e-6)
    expected = [0.003 / (1 + t / 5000) ** 30 for t in np.asarray(times)]
    np.testing.assert_allclose(learning_rate(theta, times, 5000.0), expected, rtol=2e-4)
    # with an exponent of 1 it is a polynomial of degree 1 in the inverse rate
    theta = jnp.asarray([np.log(0.2), 0.0])
    inverse = optax.polynomial_schedule(1 / 0.2, 2 / 0.2, power=1, transition_steps=5000)
    rates = learning_rate(theta, times[:3], 5000.0)
    np.testing.assert_allclose(1 / rates, jax.vmap(inverse)(times[:3]), rtol=1e-6)


def test_training_with_a_schedule_is_optax_sgd_with_momentum_on_the_same_minibatches():
    theta = jnp.asarray([np.log(0.3), np.log(2.0)])
    problem = learning_rate_schedule(hidden=[WIDTH] * HIDDEN, time_scale=4.0, **SMALL)
    state, losses, keys = unroll(problem, theta)
    network = problem.init(jax.random.key(1), theta).network
    optimizer = optax.sgd(lambda count: learning_rate(theta, count, 4.0), momentum=0.9)
    expected, expected_losses = with_optax(network, optimizer, keys)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.network, expected)
    assert int(state.time) == STEPS
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_the_accuracy_has_no_gradient_but_evolution_strategies_see_it():
    problem = learning_rate_schedule(
        "accuracy", hidden=[WIDTH] * HIDDEN, time_scale=float(STEPS), **SMALL
    )
    theta = jnp.log(jnp.asarray([0.05, 1.0]))
    losses = unroll(problem, theta)[1]
    assert ((losses <= 0) & (losses >= -1)).all()
    gradient = jax.grad(lambda theta: unroll(problem, theta)[1].sum())(theta)
    np.testing.assert_array_equal(gradient, 0.0)
    estimator = ESTIMATORS["pes"](problem, window=STEPS, particles=200, sigma=0.5, length=STEPS)
    state = estimator.init(jax.random.key(0), theta)
    estimate, _, _ = jax.jit(estimator.step)(jax.random.key(1), theta, state, DATA)
    assert estimate[0] < -0.1  # a higher initial rate is better here
    higher, lower = (unroll(problem, theta + jnp.asarray([d, 0.0]))[1].sum() for d in (1, -1))
    assert higher < lower


def test_the_accuracy_is_that_of_validation_data():
    problem = learning_rate_schedule("accuracy", hidden=[WIDTH] * HIDDEN, **SMALL)
    theta = jnp.asarray([np.log(0.3), 0.0])
    state, losses, keys = unroll(problem, theta)
    key_objective = jax.random.split(keys[-1])[1]

    def share(split):
        batch = draw_batch(key_objective, DATA[split], BATCH)
        predicted = np.argmax(logits(state.network, OPEN, batch["image"]), axis=1)
        right = float((predicted == np.asarray(batch["label"])).mean())
        assert right == pytest.approx(float(accuracy(state.network, OPEN, batch)))
        return right

    assert -losses[-1] == pytest.approx(share("inner_validation"))
    assert share("inner_validation") != share("train")


def test_an_unknown_objective_is_named():
    with pytest.raises(ValueError, match=r"`objective`='reward': .*'accuracy', 'loss'"):
        learning_rate_schedule("reward")


def test_with_one_value_for_all_tensors_it_is_optax_sgd():
    theta = same_for_all(0.2, 0.6, 1 - 1e-7)
    problem = hyperparameters(hidden_layers=HIDDEN, width=WIDTH, **SMALL)
    data = {"train": DATA["train"], "inner_validation": DATA["train"]}
    keys = jax.random.split(jax.random.key(0), STEPS)
    first = problem.init(jax.random.key(1), theta)
    state, losses = jax.lax.scan(lambda s, k: problem.step(k, theta, s, data), first, keys)
    expected, expected_losses = with_optax(first.network, optax.sgd(0.2, momentum=0.6), keys)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state.network, expected)


@pytest.mark.parametrize(
    ("layer", "tensor"), list(itertools.product(range(HIDDEN + 1), ("weight", "bias")))
)
def test_a_rate_moves_its_own_tensor_alone(layer, tensor):
    problem = hyperparameters(hidden_layers=HIDDEN, width=WIDTH, **SMALL)
    column = ("weight", "bias").index(tensor)
    stopped = same_for_all(0.2, 0.5, 1 - 1e-7)
    rates = jnp.full((HIDDEN + 1, 2), -jnp.inf).at[layer, column].set(np.log(0.2))
    stopped = stopped._replace(log_rates=rates)
    first = problem.init(jax.random.key(1), stopped)
    after, _ = problem.step(jax.random.key(0), stopped, first, DATA)
    for i, (before, now) in enumerate(zip(first.network, after.network, strict=True)):
        for name in ("weight", "bias"):
            moved = not np.array_equal(getattr(before, name), getattr(now, name))
            assert moved == ((i, name) == (layer, tensor))


def test_momenta_are_of_their_own_tensor():
    problem = hyperparameters(hidden_layers=HIDDEN, width=WIDTH, **SMALL)
    theta = same_for_all(1e-12, 0.5, 1 - 1e-7)  # nothing moves: all gradients are those of step 1
    momenta = jnp.linspace(0.1, 0.9, 2 * (HIDDEN + 1)).reshape(-1, 2)
    theta = theta._replace(logit_momenta=jnp.asarray(logit(np.asarray(momenta))))
    state = problem.init(jax.random.key(1), theta)
    seen = []
    for _ in range(2):
        state, _ = problem.step(jax.random.key(0), theta, state, DATA)
        seen.append(state.velocity)
    for (first, second), momentum in zip(zip(*seen, strict=True), momenta, strict=True):
        for a, b, mu in zip(first, second, momentum, strict=True):
            np.testing.assert_allclose(b, (1 + mu) * a, rtol=1e-4, atol=1e-7)


def test_gates_open_as_many_units_as_their_share_says():
    shares = jnp.asarray([0.5, 0.625, 0.05, 0.95])
    opened = np.concatenate(gates(jnp.asarray(logit(np.asarray(shares))), 8))
    np.testing.assert_allclose(opened.sum(axis=1), 8 * np.asarray(shares), rtol=1e-5)
    np.testing.assert_allclose(opened[0], [1] * 4 + [0] * 4, atol=1e-5)
    np.testing.assert_allclose(opened[1], [1] * 5 + [0] * 3, atol=1e-5)
    np.testing.assert_allclose(opened[2, :2], [0.4, 0], atol=1e-5)
    assert (np.diff(opened, axis=1) <= 0).all()


def test_a_network_with_half_its_gates_open_is_the_network_of_half_the_width():
    wide = init_training(jax.random.key(0), (4, 8, 8, CLASSES)).network
    first, second, last = wide
    narrow = (
        first._replace(weight=first.weight[:, :4], bias=first.bias[:4]),
        second._replace(weight=second.weight[:4, :4], bias=second.bias[:4]),
        last._replace(weight=last.weight[:4]),
    )
    batch = draw_batch(jax.random.key(1), DATA["train"], BATCH)
    half = gates(jnp.zeros(2), 8)
    np.testing.assert_allclose(
        logits(wide, half, batch["image"]), logits(narrow, OPEN, batch["image"]), atol=1e-6
    )
    # what is closed does not train: its gradient is zero
    gradient = jax.grad(cross_entropy)(wide, half, batch)
    np.testing.assert_array_equal(gradient[0].weight[:, 4:], 0)
    np.testing.assert_array_equal(gradient[2].weight[4:], 0)
    assert np.abs(gradient[2].weight[:4]).max() > 0


def test_there_are_29_hyperparameters_within_their_ranges():
    ranges = Ranges(rate=(1e-4, 1e-2), momentum=(0.01, 0.9), width=(0.2, 0.8))
    drawn = jax.vmap(lambda key: draw_hyperparameters(key, ranges, 5))(
        jax.random.split(jax.random.key(0), 500)
    )
    assert sum(leaf[0].size for leaf in jax.tree.leaves(drawn)) == 29
    naturals = (jnp.exp(drawn[0]), jax.nn.sigmoid(drawn[1]), jax.nn.sigmoid(drawn[2]))
    for values, (low, high) in zip(naturals, ranges, strict=True):
        assert values.min() >= low * 0.999
        assert values.max() <= high * 1.001
    # uniform in the units of θ: the median is the middle of the logarithms
    assert np.median(naturals[0]) == pytest.approx(1e-3, rel=0.1)
    assert np.median(drawn[1]) == pytest.approx(logit(np.asarray([0.01, 0.9])).mean(), abs=0.15)


def test_the_objective_is_validation_loss_after_the_update():
    problem = hyperparameters(hidden_layers=HIDDEN, width=WIDTH, **SMALL)
    theta = same_for_all(0.2, 0.5, 0.7)
    state, losses, keys = unroll(problem, theta, steps=3)
    batch = draw_batch(jax.random.split(keys[-1])[1], DATA["inner_validation"], BATCH)
    opened = gates(theta.logit_widths, WIDTH)
    assert losses[-1] == pytest.approx(float(cross_entropy(state.network, opened, batch)), rel=1e-5)
