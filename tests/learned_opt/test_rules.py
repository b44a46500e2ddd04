"""What is particular to a rule: what it reduces to, what it reads, what it refuses."""

from importlib import import_module

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt import RULES
from learned_opt.rules.mu_mlp import step_scales
from tests.learned_opt.rules_table import LOUD, ROWS, make, quick_jit, small

scheduled_mlp = import_module("learned_opt.rules.scheduled_mlp")

SIZES = {
    "mlp": (19, 1762), "adafactor_mlp": (39, 190 + 7), "adafactor_mlp_h32": (39, 2402 + 7),
    "mu_mlp": (39, 2402 + 7), "normalized_mlp": (30, 347), "rnn_mlp": (54, None),
    "nn_adam": (19, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_inputs_and_meta_parameters_are_as_many_as_published(name):
    inputs, size = SIZES[name]
    rule = RULES[name]()
    assert len(rule.inputs) == inputs == len(set(rule.inputs))
    if size is not None:
        leaves = jax.tree.leaves(jax.eval_shape(rule.init, jax.random.key(0)))
        assert sum(leaf.size for leaf in leaves) == size


def test_the_rule_of_celo_has_159_numbers_and_its_parts_are_apart():
    shapes = jax.eval_shape(RULES["scheduled_mlp"]().init, jax.random.key(0))
    assert set(shapes) == {"rule", "scheduler"}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["rule"])) == 159


def normals_like(key, params):
    keys = iter(jax.random.split(key, 8))
    return jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), params)


def run(tx, steps=6, params=None, value=lambda t: 2.0 - 0.1 * t):
    """Updates of a few steps with gradients of several sizes."""
    params = small() if params is None else params
    state, updates = tx.init(params), []
    update = quick_jit(tx.update)
    for t in range(steps):
        grads = optax.tree.scale(10.0**-t, normals_like(jax.random.key(t), params))
        step, state = update(grads, state, params, value=value(t))
        params = optax.apply_updates(params, step)
        updates.append(step)
    return updates


def assert_close(actual, expected, rtol=1e-4, atol=1e-7):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected
    )


def silent(theta):
    """θ whose network puts out zeros."""
    last = max(name for name in theta if name.startswith("mlp/"))
    return {**theta, last: jax.tree.map(jnp.zeros_like, theta[last])}


def test_a_nominal_rule_whose_network_is_silent_is_adamw():
    rule = RULES["nominal_mlp"](nominal_rate=0.01, weight_decay=0.1)
    theta = silent(rule.init(jax.random.key(0)))
    assert_close(
        run(rule.build(theta)),
        run(optax.with_extra_args_support(optax.adamw(0.01, weight_decay=0.1))),
    )


HAND_DESIGNED = {
    "sgd": lambda: optax.sgd(0.02),
    "momentum": lambda: optax.sgd(0.02, momentum=0.8),
    "adam": lambda: optax.adam(0.02, b1=0.8, b2=0.95, eps=1e-4),
    "adamw": lambda: optax.adamw(0.02, b1=0.8, b2=0.95, eps=1e-4, weight_decay=0.3),
}
INITIAL = {
    "initial_learning_rate": 0.02, "initial_momentum": 0.8, "initial_b1": 0.8, "initial_b2": 0.95,
    "initial_epsilon": 1e-4, "initial_weight_decay": 0.3,
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_DESIGNED)
def test_hyper_begins_as_the_optimizer_that_it_learns(name):
    rule = RULES["hyper"](optimizer=name, **INITIAL)
    theta = rule.init(jax.random.key(0))
    expected = run(optax.with_extra_args_support(HAND_DESIGNED[name]()))
    assert_close(run(rule.build(theta)), expected, rtol=2e-4)
    moved = jax.tree.map(lambda x: x + 0.5, theta)
    assert any(
        np.abs(a["matrix"] / b["matrix"] - 1).max() > 0.1
        for a, b in zip(run(rule.build(moved)), expected, strict=True)
    )


SCHEDULES = {
    "constant": lambda t: 1.0,
    "power": lambda t: (1 + t / 3.0) ** -1.5,
    "cosine": lambda t: 0.2 + 0.8 * (1 + np.cos(np.pi * min(t / 4, 1))) / 2,
    "linear": lambda t: 0.2 + 0.8 * (1 - min(t / 4, 1)),
    "piecewise": lambda t: np.exp(np.interp(min(t / 4, 1), [0, 0.5, 1], [0.0, 1.0, -1.0])),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedules_of_hyper(name):
    rule = RULES["hyper"](
        optimizer="sgd", schedule=name, time_scale=3.0, knots=3, initial_power=1.5,
        initial_final_share=0.2, initial_learning_rate=0.02,
    )  # fmt: skip
    theta = rule.init(jax.random.key(0))
    if name == "piecewise":
        theta["hyper"]["log_heights"] = jnp.asarray([0.0, 1.0, -1.0])
    tx = rule.build(theta, num_steps=4)
    params, state = {"x": jnp.ones(2)}, tx.init({"x": jnp.ones(2)})
    for t in range(6):
        updates, state = tx.update(params, state, params)
        np.testing.assert_allclose(updates["x"], -0.02 * SCHEDULES[name](t), rtol=1e-5)


def test_nn_adam_before_its_training_is_adam_without_the_correction_of_its_start():
    rule = RULES["nn_adam"](initial_learning_rate=0.01, initial_epsilon=1e-4)
    updates = run(rule.build(rule.init(jax.random.key(0))))
    m = v = 0.0
    for t, update in enumerate(updates):
        gradient = 10.0**-t * jax.random.normal(jax.random.split(jax.random.key(t), 8)[0], (4, 3))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = -0.01 * (1 + 1e-4) * m / (1e-4 + jnp.sqrt(v + 1e-10))
        np.testing.assert_allclose(update["matrix"], expected, rtol=1e-3)


def test_the_hyperparameters_of_nn_adam_stay_in_their_ranges():
    rule, theta = make(ROWS["nn_adam"], output_scale=1e4)
    tx = rule.build(theta)
    params, state = small(), tx.init(small())
    update = quick_jit(tx.update)
    for t in range(4):
        updates, state = update(optax.tree.scale(10.0**t, params), state, params)
        assert all(np.isfinite(u).all() for u in jax.tree.leaves(updates))
    controls = np.stack(state.controls)
    assert (controls <= [[0.7], [0.0], [0.0], [1.0]]).all()
    assert (controls >= [[-1.85], [-1.0001], [-1.0001], [-2.54]]).all()


def test_mu_scales_hidden_matrices_by_their_fan_in():
    shapes = {"in": [7, 16], "hidden": [16, 16], "b": [16], "out": [16, 3], "conv": [3, 3, 16, 32]}
    wider = {"in": (7, 64), "hidden": (64, 64), "b": (64,), "out": (64, 3), "conv": (3, 3, 32, 128)}
    wide = {name: jnp.ones(shape) for name, shape in wider.items()}
    expected = {"in": 1, "hidden": 0.25, "b": 1, "out": 1, "conv": 0.5}
    assert step_scales(wide, shapes) == expected
    base = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    rule, theta = make(ROWS["mu_mlp"], base_shapes=base)
    assert rule.constants["base_shapes"] == shapes
    plain, _ = make(ROWS["mu_mlp"])
    two = {name: wide[name] for name in ("hidden", "b")}
    scaled, unscaled = run(rule.build(theta), 1, two)[0], run(plain.build(theta), 1, two)[0]
    for name in two:
        np.testing.assert_allclose(scaled[name], expected[name] * unscaled[name], rtol=1e-5)
    for wrong, message in [
        ({"other": jnp.ones(3)}, "no shape for the parameter 'other'"),
        ({"b": jnp.ones((2, 2))}, r"'b' has shape \(2, 2\), in the base \(16,\)"),
        ({"conv": jnp.ones((5, 3, 32, 64))}, "along one axis or two"),
    ]:
        with pytest.raises(ValueError, match=message):
            rule.build(theta).init(wrong)
    with pytest.raises(ValueError, match=r"`base_shapes`=.*must be the parameters"):
        RULES["mu_mlp"](base_shapes={"a": "wide"})


def test_a_normalized_direction_has_a_root_mean_square_of_the_rate():
    rule, theta = make(ROWS["normalized_mlp"], weight_decay=0.0, learning_rate=0.25)
    params = small() | {"scalar": jnp.ones(()), "conv": jnp.ones((2, 3, 4, 5))}
    for update in run(rule.build(theta), 3, params):
        for leaf in (update["matrix"], update["v"], *update["conv"].reshape(6, 4, 5)):
            assert np.sqrt(np.mean(np.square(leaf))) == pytest.approx(0.25, rel=1e-3)
        assert abs(update["scalar"]) == pytest.approx(0.25, rel=1e-3)


def test_a_normalized_rule_takes_schedule_weight_decay_and_mask():
    theta = make(ROWS["normalized_mlp"])[1]

    def built(**constants):
        return RULES["normalized_mlp"](**constants).build(theta)

    plain = run(built(learning_rate=0.1), 3)
    scheduled = run(built(learning_rate=lambda count: 0.1 * 0.5**count), 3)
    np.testing.assert_allclose(scheduled[0]["v"], plain[0]["v"], rtol=1e-6)
    for t, update in enumerate(scheduled):
        assert np.sqrt(np.mean(np.square(update["v"]))) == pytest.approx(0.1 * 0.5**t, rel=1e-3)
    decayed = run(built(learning_rate=0.1, weight_decay=0.5), 1)[0]
    assert_close(
        jax.tree.map(lambda a, b, p: (a - b) / p, decayed, plain[0], small()),
        jax.tree.map(lambda p: jnp.full(p.shape, -0.05), small()),
        rtol=1e-3,
    )
    mask = {"matrix": True, "v": False}
    masked = run(built(learning_rate=0.1, weight_decay=0.5, weight_decay_mask=mask), 1)[0]
    assert_close(masked, {"matrix": decayed["matrix"], "v": plain[0]["v"]})
    adam = run(built(learning_rate=0.1, vectors="adamw", vector_rate=0.5), 3)
    expected = run(optax.with_extra_args_support(optax.adam(0.05, b2=0.95)), 3)
    for own, theirs, ruled in zip(adam, expected, plain, strict=True):
        np.testing.assert_allclose(own["v"], theirs["v"], rtol=1e-5)
        assert own["matrix"].shape == ruled["matrix"].shape
    with pytest.raises(ValueError, match=r"`learning_rate`=None: the output .* is a direction"):
        built()


def test_the_scheduler_runs_once_for_what_the_public_code_runs_once_a_tensor():
    """An LSTM a tensor, pooled by the maximum, on the same inputs: the plain form."""
    rule, theta = make(ROWS["scheduled_mlp"])
    alone = RULES["scheduled_mlp"](**LOUD, scheduled=False)
    params = small()
    once, unscheduled = run(rule.build(theta, num_steps=50)), run(alone.build(theta))
    ratios = [u["matrix"] / s["matrix"] for u, s in zip(once, unscheduled, strict=True)]
    tensors, weights = len(params), theta["scheduler"]

    def linear(name, x):
        layer = weights[f"scheduler/{name}"]
        return x @ layer["w"] + layer["b"][None]

    state = hk.LSTMState(*(
        jnp.broadcast_to(weights["scheduler"][f"initial_{name}"], (tensors, 64))
        for name in ("hidden", "cell")
    ))  # fmt: skip
    lstm = hk.without_apply_rng(hk.transform(lambda x, s: hk.LSTM(64, name="lstm")(x, s)))
    decays = scheduled_mlp.loss_decays(jnp.float32(50))
    history = scheduled_mlp.no_losses()
    for t, ratio in enumerate(ratios[:1]):
        history = scheduled_mlp.add_loss(history, jnp.float32(2.0), jnp.int32(t), decays)
        x = jnp.concatenate([
            jnp.tanh(10 * (t / 50 - jnp.asarray([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.1]))),
            scheduled_mlp.loss_features(history, jnp.int32(t + 1), decays),
        ])  # fmt: skip
        x = jnp.broadcast_to(x, (tensors, 18))
        pooled = jax.nn.relu(linear("mix", x)).max(axis=0, keepdims=True)
        out, state = lstm.apply(
            {"lstm/linear": weights["scheduler/lstm/linear"]}, linear("input", x) + pooled, state
        )
        expected = 0.1 * np.exp(linear("step_size", out))
        assert np.ptp(expected) == 0
        np.testing.assert_allclose(ratio, expected[0, 0], rtol=1e-4)


def test_the_scheduler_hears_the_loss_and_the_horizon():
    rule, theta = make(ROWS["scheduled_mlp"])
    short, long = (run(rule.build(theta, num_steps=n)) for n in (8, 800))
    assert not np.allclose(short[-1]["v"], long[-1]["v"], rtol=1e-3)
    flat = run(rule.build(theta, num_steps=8), value=lambda t: 1.0)
    assert not np.allclose(short[-1]["v"], flat[-1]["v"], rtol=1e-4)
    with pytest.raises(ValueError, match="`num_steps`=0: must be at least 1"):
        rule.build(theta, num_steps=0)


def test_rnn_mlp_reads_a_validation_loss_where_there_is_one():
    rule, theta = make(ROWS["rnn_mlp"])
    tx = rule.build(theta)
    params, state = small(), tx.init(small())
    update = quick_jit(tx.update)
    _, without = update(params, state, params, value=1.0)
    _, told = update(params, state, params, value=1.0, validation_value=3.0)
    assert (without.validation.losses, told.validation.losses) == (0, 1)
    after, _ = update(params, without, params, value=1.0)
    changed, _ = update(params, told, params, value=1.0)
    assert not np.allclose(after["matrix"], changed["matrix"], rtol=1e-6, atol=0)


def test_any_optax_transformation_is_a_rule():
    tx = optax.chain(optax.scale_by_rms(), optax.scale(-0.1))
    rule = learned_opt.from_optax(tx)
    assert rule.init(jax.random.key(0)) == ()
    assert_close(run(rule.build((), num_steps=3)), run(optax.with_extra_args_support(tx)))
    named = RULES["optax"](transformation="sgd", arguments={"learning_rate": 0.1, "momentum": 0.9})
    assert_close(run(named.build(())), run(optax.with_extra_args_support(optax.sgd(0.1, 0.9))))
    for constants, message in [
        ({"transformation": "exec"}, "`transformation`='exec': must be one of"),
        ({"arguments": {"speed": 1}}, "do not fit `optax.adam`"),
        ({"arguments": {"learning_rate": [1]}}, "must map names to numbers"),
        ({"arguments": 3}, "must map names to numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            RULES["optax"](**constants)


BAD = {
    "mlp": {"hidden": (8, True)},
    "adafactor_mlp": {"factored_decays": (0.9,)},
    "mu_mlp": {"second_moment_decays": (0.9, 0.99)},
    "normalized_mlp": {"vectors": "sgd"},
    "scheduled_mlp": {"scheduler_units": 0},
    "rnn_mlp": {"from_mlp": 2.5},
    "nn_adam": {"initial_beta1": 1.0},
    "nominal_mlp": {"preconditioned": "yes"},
    "hyper": {"schedule": "exponential"},
}


@pytest.mark.parametrize("name", BAD)
def test_a_constant_out_of_its_range_is_named_with_its_value(name):
    ((constant, value),) = BAD[name].items()
    with pytest.raises(ValueError, match=f"`{constant}`="):
        RULES[name](**{constant: value})
