"""The rules in NumPy make the updates of the rules in JAX, and faults in them would be seen."""

import numpy as np
import pytest

from checkpoints.numpy_rules import NAMES, common, normalized_mlp, rule_module
from learned_opt import RULES
from learned_opt.portable.theta import named_leaves, theta_shapes
from tests.checkpoints.numpy_comparison import VARIANTS, deviations, random_theta

TOLERANCE = 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_updates_are_those_of_the_rule_in_jax(variant):
    assert deviations(variant).max() < TOLERANCE


def test_every_rule_has_a_variant():
    assert {RULES[rule]().name for rule, _ in VARIANTS.values()} == set(NAMES)
    assert {rule().name for rule in RULES.values()} == {*NAMES, "optax"}


def without_forget_bias(theta, name, *arguments):
    bias = theta[f"{name}/linear/b"]
    shift = np.float32(np.repeat([0, 0, 1, 0], len(bias) // 4))
    return LSTM({**theta, f"{name}/linear/b": bias - shift}, name, *arguments)


def keras_order(product):
    i, f, g, o = np.split(product, 4, axis=-1)
    return [i, g, f, o]


def unscaled_offsets(theta, constants):
    tenth = {name: x / 10 if name.startswith("decays/") else x for name, x in theta.items()}
    return LEARNED(tenth, constants)


def earlier_of_equal_axes(shape):
    return tuple(int(i) for i in np.argsort([-extent for extent in shape], kind="stable")[1::-1])


LSTM, LEARNED, OVER_RMS = common.lstm, common.learned_decays, common.over_rms
MEAN, TIME, AXES = common.running_mean, common.tanh_of_steps, common.factored_axes
ADAM = common.adam_direction
FAULTS = {
    "gradients are not clipped": (
        {"clip_gradient": lambda g: g},
        ("nn_adam", "normalized_mlp", "scheduled_mlp, its first phase"),
    ),
    "the gates in another order": (
        {"gates": keras_order}, ("rnn_mlp", "nn_adam", "scheduled_mlp"),
    ),
    "no bias of the forget gate": (
        {"lstm": without_forget_bias}, ("rnn_mlp", "nn_adam", "scheduled_mlp"),
    ),
    "ε times a thousand": (
        {"over_rms": lambda x, epsilon: OVER_RMS(x, 1000 * epsilon)},
        ("mlp", "adafactor_mlp", "nominal_mlp", "rnn_mlp", "normalized_mlp", "scheduled_mlp"),
    ),
    "sums for means": (
        {"running_mean": lambda x, value, decays: MEAN(x, value / (1 - decays.max()), decays)},
        ("mlp", "adafactor_mlp", "mu_mlp", "nominal_mlp", "rnn_mlp", "normalized_mlp"),
    ),
    "time begins at 1": (
        {"tanh_of_steps": lambda step, scales: TIME(step + 1, scales)},
        ("mlp", "adafactor_mlp", "mu_mlp", "nominal_mlp"),
    ),
    "offsets of decays without their 10": (
        {"learned_decays": unscaled_offsets}, ("adafactor_mlp", "mu_mlp", "nominal_mlp"),
    ),
    "rows for columns": (
        {"factored_axes": lambda shape: AXES(shape)[::-1]},
        ("adafactor_mlp", "mu_mlp", "nominal_mlp", "normalized_mlp", "scheduled_mlp"),
    ),
    "the earlier of equal axes": (
        {"factored_axes": earlier_of_equal_axes}, ("adafactor_mlp", "normalized_mlp"),
    ),
    "Adam's start is not corrected": (
        {"adam_direction": lambda *x: ADAM(*x[:-1], 10_000)},
        ("hyper: adamw, linear", "normalized_mlp, Newton-Schulz, AdamW, mask"),
    ),
    "the mean square for the variance": (
        {"mean_and_variance": lambda x: (np.mean(x), np.mean(np.square(x)))},
        ("nn_adam", "rnn_mlp"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "variant"), [(fault, each) for fault in FAULTS for each in FAULTS[fault][1]]
)
def test_faults_are_seen(monkeypatch, fault, variant):
    for name, function in FAULTS[fault][0].items():
        monkeypatch.setattr(common, name, function)
    assert deviations(variant).max() > 20 * TOLERANCE


def twin(variant, changes=None, **options):
    rule, constants = VARIANTS[variant]
    optimizer = RULES[rule](**constants)
    theta = named_leaves(random_theta(theta_shapes(optimizer), seed=0))
    constants = {**optimizer.constants, **(changes or {})}
    return rule_module(optimizer.name).Optimizer(theta, constants, **options)


ONE = {"w": np.ones((2, 3), np.float32)}


@pytest.mark.parametrize("variant", [x for x in VARIANTS if not x.startswith("hyper")])
def test_another_dtype_of_the_state_is_refused(variant):
    with pytest.raises(ValueError, match=r"`state_dtype`='bfloat16': .*float32"):
        twin(variant, {"state_dtype": "bfloat16"}, num_steps=10)


@pytest.mark.parametrize("variant", ["scheduled_mlp", "hyper: adam, cosine"])
@pytest.mark.parametrize("num_steps", [None, 0, 2**31])
def test_without_a_horizon_it_says_so(variant, num_steps):
    with pytest.raises(ValueError, match=f"`num_steps`={num_steps}: .*num_steps=10_000"):
        twin(variant, num_steps=num_steps)


@pytest.mark.parametrize("variant", ["scheduled_mlp", "rnn_mlp"])
def test_without_the_loss_it_says_so(variant):
    optimizer = twin(variant, num_steps=10)
    with pytest.raises(ValueError, match=r"`value`=None: .*value=loss"):
        optimizer.update(ONE, optimizer.init(ONE), ONE)


def test_the_rate_of_a_direction_is_the_users():
    with pytest.raises(ValueError, match=r"`learning_rate`=None: .*learning_rate=1e-3"):
        twin("normalized_mlp", {"learning_rate": None})
    number = twin("normalized_mlp", {"learning_rate": None}, learning_rate=0.2)
    schedule = twin("normalized_mlp", learning_rate=lambda step: 0.2 / (step + 1))
    (first, second), scheduled = two_updates(number), two_updates(schedule)
    np.testing.assert_allclose((first, second / 2), scheduled, rtol=1e-6)


def two_updates(optimizer):
    first, state = optimizer.update(ONE, optimizer.init(ONE), ONE)
    second, _ = optimizer.update(ONE, state, ONE)
    return first["w"], second["w"]


def test_a_mask_of_the_decay_may_have_any_nest():
    mask = {"mlp/~/linear_0": {"w": True, "b": False}, "list": [False, True]}
    flags = {
        name: normalized_mlp.is_decayed(name, mask)
        for name in ("mlp/~/linear_0/w", "mlp/~/linear_0/b", "list/0", "list/1")
    }
    assert list(flags.values()) == [True, False, False, True]
    with pytest.raises(ValueError, match=r"`weight_decay_mask` has no flag for .*'other'"):
        normalized_mlp.is_decayed("other", mask)


def test_mu_mlp_is_the_adafactor_mlp_where_the_model_is_its_own_base():
    mu = twin("mu_mlp", {"base_shapes": None})
    plain = rule_module("adafactor_mlp").Optimizer(mu.theta, mu.constants)
    np.testing.assert_array_equal(two_updates(mu), two_updates(plain))


@pytest.mark.parametrize(
    ("base", "told"),
    [({}, "has None for"), ({"w": [2]}, r"has \[2\] for"), ({"w": [1, 1, 1]}, "one axis or two")],
)
def test_a_base_model_that_does_not_fit_is_refused(base, told):
    params = {"w": np.ones((2, 3, 4), np.float32)}
    with pytest.raises(ValueError, match=f"`base_shapes` .*'w'.*{told}|`base_shapes` {told} .*'w'"):
        twin("mu_mlp", {"base_shapes": base}).init(params)
