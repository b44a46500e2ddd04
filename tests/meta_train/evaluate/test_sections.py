"""Cost, sensitivity and behaviour: of rules whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import RULES, LearnedOptimizer
from meta_train.evaluate.baselines import BASELINES
from meta_train.evaluate.behaviour import ABLATION_SEEDS, ablation, response, trajectory
from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.cost import measure_costs, with_pay
from meta_train.evaluate.runs import Curve, RunSpec, Trainer, data_of
from meta_train.evaluate.sensitivity import is_perceptron, variations
from meta_train.evaluate.varied import UNVARIED, input_groups, settings_of, varied
from tasks import get_family

FAMILY = get_family("quadratic8")
SPLITS = FAMILY.load()
DATA = data_of(FAMILY, SPLITS)
ADAM = BASELINES["adam"]
SETTINGS = ADAM.settings("constant", 0.01, 20)


def as_learned(name, build, theta=()):
    rule = LearnedOptimizer(name, {}, lambda key: theta, build)
    return Contestant(name, name, True, {"manifest": name}, rule, lambda settings: theta)


def decaying(theta, num_steps=None):
    """SGD at 0.3 / num_steps."""
    del theta
    return optax.with_extra_args_support(optax.sgd(0.3 / num_steps))


PLANNER = as_learned("planner", decaying)


def final_params(trainer, seed, settings, steps):
    (curve,) = trainer.train([RunSpec(seed, settings, steps)])
    return curve.test[-1]


def test_a_varied_rule_is_told_other_steps_and_scaled():
    """Twice the steps told is half of the rate; half of the multiplier is the same."""
    trainer = Trainer(FAMILY, DATA, varied(PLANNER), horizon=8, most=4)
    plain = Trainer(FAMILY, DATA, PLANNER, horizon=8, most=4)
    whole = final_params(plain, 0, {}, 8)
    assert final_params(trainer, 0, UNVARIED, 8) == pytest.approx(whole, rel=1e-6)
    told = final_params(trainer, 0, settings_of(num_steps=2.0), 8)
    scaled = final_params(trainer, 0, settings_of(multiplier=0.5), 8)
    both = final_params(trainer, 0, settings_of(num_steps=2.0, multiplier=2.0), 8)
    assert told == pytest.approx(scaled, rel=1e-6)
    assert abs(told - whole) > 1e-3 * whole
    assert both == pytest.approx(whole, rel=1e-5)


def test_an_ablated_input_is_not_seen():
    """With the rows of the first matrix at 0 the network is that of zeros in their place."""
    rule = RULES["mlp"](hidden=(4, 4), step_multiplier=0.1)
    groups = input_groups(rule)
    assert list(groups) == ["g", "p", "m", "time"]
    assert groups["m"] == [2, 3, 4, 5, 6, 7]
    theta = jax.tree.map(np.asarray, rule.init(jax.random.key(0)))
    contestant = Contestant("mlp", "mlp", True, {}, rule, lambda settings: theta)
    changed = varied(contestant)
    params = {"w": jnp.linspace(-1, 1, 6).reshape(2, 3)}
    gradient = {"w": jnp.cos(jnp.arange(6.0)).reshape(2, 3)}

    @jax.jit
    def step(theta):
        tx = changed.optimizer.build(theta)
        return tx.update(gradient, tx.init(params), params)[0]["w"]

    for number, places in enumerate(groups.values()):
        cut = jax.tree.map(np.array, theta)
        cut["mlp/~/linear_0"]["w"][places] = 0
        plain = rule.build(cut)
        expected = plain.update(gradient, plain.init(params), params)[0]["w"]
        found = step(changed.theta(settings_of(ablated=float(number))))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    whole = rule.build(theta)
    expected = whole.update(gradient, whole.init(params), params)[0]["w"]
    np.testing.assert_allclose(step(changed.theta(UNVARIED)), expected, rtol=1e-5, atol=1e-9)
    assert input_groups(RULES["optax"]()) == {}


def test_the_ablation_is_the_ratio_of_losses():
    rule = RULES["mlp"](hidden=(4, 4))
    contestant = Contestant(
        "mlp", "mlp", True, {}, rule, lambda settings: rule.init(jax.random.key(0))
    )

    def run(contestant, role, specs):
        assert role == "ablation"
        losses = {-1: 1.0, 0: 2.0, 1: 1.0, 2: np.nan, 3: 0.5}
        final = [losses[int(s.settings["ablated"])] for s in specs]
        return [Curve(np.asarray([9]), *[np.asarray([x])] * 3) for x in final]

    rows = ablation(run, contestant, 9, 20)
    assert [row["inputs"] for row in rows] == ["g", "p", "m", "time"]
    assert [row["ratio"] and row["ratio"]["value"] for row in rows] == [2.0, 1.0, None, 0.5]
    assert [row["diverged"] for row in rows] == [0, 0, ABLATION_SEEDS, 0]


def test_the_trajectory_of_adam_is_adams():
    twin = as_learned("twin", lambda theta, num_steps=None: ADAM.optimizer.build(theta), SETTINGS)
    found = trajectory(FAMILY, SPLITS, twin, ADAM, SETTINGS, 20)
    assert found["steps"] == list(range(1, 21))
    np.testing.assert_allclose(found["cosine"], 1, rtol=1e-4)
    np.testing.assert_allclose(found["distance"], 0, atol=1e-3)
    np.testing.assert_allclose(found["rms"], found["adam_rms"], rtol=1e-3)
    assert found["rms"][0] == pytest.approx(0.01, rel=1e-3)  # Adam's first step is the rate

    def opposite(theta, num_steps=None):
        return optax.chain(ADAM.optimizer.build(theta), optax.scale(-3.0))

    found = trajectory(
        FAMILY, SPLITS, as_learned("opposite", opposite, SETTINGS), ADAM, SETTINGS, 20
    )
    np.testing.assert_allclose(found["cosine"], -1, rtol=1e-4)
    np.testing.assert_allclose(found["distance"], 4, rtol=1e-3)
    np.testing.assert_allclose(np.divide(found["rms"], found["adam_rms"]), 3, rtol=1e-3)


def test_the_response_of_sgd_is_a_line_and_that_of_momentum_needs_no_gradient():
    sgd = as_learned(
        "sgd", lambda theta, num_steps=None: optax.with_extra_args_support(optax.sgd(0.1))
    )
    found = response(sgd, ADAM, SETTINGS, 20)
    grid = np.asarray(found["grid"])
    line = -grid / np.sqrt(np.mean(grid**2))
    np.testing.assert_allclose(found["ours"]["gradient"], line, atol=1e-4)
    np.testing.assert_allclose(found["ours"]["momentum"], 0, atol=1e-6)
    momentum = as_learned(
        "momentum",
        lambda theta, num_steps=None: optax.with_extra_args_support(optax.sgd(0.1, momentum=0.9)),
    )
    found = response(momentum, ADAM, SETTINGS, 20)
    assert np.corrcoef(found["ours"]["momentum"], -grid)[0, 1] > 0.97
    assert np.corrcoef(found["adam"]["momentum"], -grid)[0, 1] > 0.9


def test_costs_are_beside_adams_in_the_same_turns():
    slow = as_learned("slow", lambda theta, num_steps=None: optax.chain(
        optax.with_extra_args_support(optax.scale_by_adam()), *[optax.scale_by_adam()] * 3
    ))  # fmt: skip
    rows = {row["contestant"]: row for row in measure_costs(FAMILY, SPLITS, [slow, ADAM], 20)}
    assert rows["adam"]["step_ratio"] == rows["adam"]["update_ratio"] == 1
    assert rows["slow"]["state_bytes"] == pytest.approx(4 * (8 + 4 / 8), rel=0.1)
    assert rows["adam"]["state_bytes"] == pytest.approx(8 + 2 * 4 / 8, rel=0.1)
    for row in rows.values():
        assert row["update_us"] > 0
        assert row["step_us"] > 0
        assert row["update_us"] < 2 * row["step_us"]  # a step has an update in it
        assert row["compile_seconds"] > 0


def test_pay_by_hand():
    rows = [
        {"contestant": "ours", "step_us": 150.0, "step_ratio": 1.5},
        {"contestant": "worse", "step_us": 300.0, "step_ratio": 3.0},
        {"contestant": "adam", "step_us": 100.0, "step_ratio": 1.0},
    ]
    ours, worse, adam = with_pay(
        rows, {"ours": 2.0, "worse": 2.0}, 1_000, {"ours": 7.0, "worse": 7.0}
    )
    # Adam takes 2,000 steps of 100 µs, ours 1,000 of 150 µs: 0.05 s a run; 7 s are 140 runs.
    assert ours["wall_clock_speedup"] == pytest.approx(4 / 3)
    assert ours["break_even"] == "140"
    assert worse["wall_clock_speedup"] == pytest.approx(2 / 3)
    assert worse["break_even"] == "never"
    assert "break_even" not in adam
    unknown, *_ = with_pay(rows, {"ours": 2.0}, 1_000, {"ours": None})
    assert "break_even" not in unknown


def test_variations_of_a_perceptron_and_of_anything_else():
    found = list(variations("fashion_mnist_8x8_mlp32x16_tanh+flip", 64))
    by_axis = {}
    for variation in found:
        by_axis.setdefault(variation.axis, []).append(variation)
    assert [v.family for v in by_axis["width"]] == [
        f"fashion_mnist_8x8_mlp{a}x{b}_tanh+flip" for a, b in ((8, 4), (32, 16), (128, 64))
    ]
    assert [v.family for v in by_axis["depth"]][1] == "fashion_mnist_8x8_mlp32x32_tanh+flip"
    assert [v.batch_size for v in by_axis["batch"]] == [16, None, 256]
    assert by_axis["reparametrisation"][0].family.endswith("+reparametrize_global:0.1:0.1")
    assert [v.horizon for v in by_axis["horizon"]] == [0.25, 0.5, 1, 2, 4, 10]
    for variation in found:
        assert get_family(variation.family, batch_size=variation.batch_size)
    assert not is_perceptron("quadratic8")
    assert {v.axis for v in variations("quadratic8", 1)} == {
        "horizon", "num_steps", "step multiplier", "reparametrisation",
    }  # fmt: skip
