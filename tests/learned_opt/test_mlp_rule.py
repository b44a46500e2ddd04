"""The MLP rule is the published one, and its cheap form the plain one."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import RULES
from learned_opt.features.time import TIMESCALES
from learned_opt.rules.mlp import MOMENTUM_DECAYS


def plain_update(theta, step, gradient, parameter, momenta, hidden=(32, 32)):
    """The rule as its paper has it: features [n, 19] through `hk.nets.MLP`."""
    momenta = [b * m + (1 - b) * gradient for b, m in zip(MOMENTUM_DECAYS, momenta, strict=True)]
    columns = [x.reshape(-1) for x in (gradient, parameter, *momenta)]
    columns = [x / jnp.sqrt(jnp.mean(x**2) + 1e-5) for x in columns]
    columns += [jnp.full(gradient.size, jnp.tanh(step / tau - 1)) for tau in TIMESCALES]
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([*hidden, 2])(x)))
    d, mu = network.apply(theta, jnp.stack(columns, axis=1)).T
    return -0.02 * (d * jnp.exp(0.3 * mu)).reshape(gradient.shape), momenta


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (2, 3, 4, 5)])
def test_equals_the_plain_form_at_every_step(shape):
    rule = RULES["mlp"](step_multiplier=0.02, exponent_multiplier=0.3)
    theta = jax.tree.map(lambda x: x + 0.1, rule.init(jax.random.key(1)))  # no zero biases
    tx = rule.build(theta)
    parameter = jax.random.normal(jax.random.key(2), shape)
    state, momenta = tx.init(parameter), [jnp.zeros(shape)] * len(MOMENTUM_DECAYS)
    update = jax.jit(tx.update)
    for step in range(4):
        gradient = 10.0**-step * jax.random.normal(jax.random.key(step), shape)
        expected, momenta = plain_update(theta, step, gradient, parameter, momenta)
        actual, state = update(gradient, state, parameter)
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-7)
        parameter = parameter + actual


def test_theta_is_that_of_the_haiku_mlp():
    rule = RULES["mlp"](hidden=(8, 4))
    network = hk.transform(lambda x: hk.nets.MLP([8, 4, 2])(x))
    expected = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 19)))
    assert jax.eval_shape(rule.init, jax.random.key(0)) == expected
    weights = RULES["mlp"]().init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == 1762
    for i, fan_in in enumerate((19, 32, 32)):
        layer = weights[f"mlp/~/linear_{i}"]
        truncated = 0.8796  # standard deviation of a normal truncated at ±2
        assert np.std(layer["w"]) * fan_in**0.5 == pytest.approx(truncated, rel=0.2)
        assert not layer["b"].any()


def test_a_long_tensor_goes_through_chunks_to_the_same_update():
    rule = RULES["mlp"](step_multiplier=0.02, exponent_multiplier=0.3)
    theta = rule.init(jax.random.key(0))
    long = jax.random.normal(jax.random.key(1), (40_000,))  # two chunks and a rest
    tx = rule.build(theta)
    actual, _ = jax.jit(tx.update)(long, tx.init(long), long)
    momenta = [jnp.zeros_like(long)] * len(MOMENTUM_DECAYS)
    expected, _ = plain_update(theta, 0, long, long, momenta)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("constants", "name"),
    [
        ({"step_multiplier": 0.0}, "step_multiplier"),
        ({"exponent_multiplier": float("nan")}, "exponent_multiplier"),
        ({"hidden": ()}, "hidden"),
        ({"momentum_decays": (0.9, 1.0)}, "momentum_decays"),
        ({"timescales": (1.0, -3.0)}, "timescales"),
    ],
)
def test_constants_out_of_range_are_named(constants, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        RULES["mlp"](**constants)
