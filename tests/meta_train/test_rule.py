"""Any rule is meta-trained; a part of θ may be frozen, and θ may begin with that of another run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import RULES
from meta_train.assemble import assemble
from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.presets import CONSTANTS, TINY
from meta_train.rule import make_rule, rule_of

KEY = jax.random.key(0)
TRAINABLE = sorted(set(RULES) - {"optax"})


def config(rule, **changes):
    constants = changes.pop("constants", CONSTANTS.get(rule, "{}"))
    return dataclasses.replace(TINY, rule=rule, constants=constants, **changes)


@pytest.mark.parametrize("rule", TRAINABLE)
def test_a_run_of_every_rule_can_be_put_together(rule):
    """All of the compiled program but its compilation."""
    horizon = '{"schedule": "cosine"}' if rule == "hyper" else None
    run = assemble(config(rule, **({"constants": horizon} if horizon else {})))
    state = jax.eval_shape(run.training.init, run.key_init)
    after, metrics = jax.eval_shape(
        run.training.advance, state, jnp.int32(1), run.key_updates, run.data
    )
    assert jax.tree.structure(after.theta) == jax.tree.structure(state.theta)
    assert "meta_loss" in metrics


def test_the_constants_of_a_rule_are_json():
    made = rule_of(config("adafactor_mlp", constants='{"hidden": [8, 8], "step_multiplier": 0.1}'))
    assert made.constants["hidden"] == [8, 8]
    assert made.constants["step_multiplier"] == 0.1
    assert rule_of(MetaTrainConfig(rule="mlp")).constants == RULES["mlp"]().constants
    for constants, message in [
        ("{", "is not JSON"),
        ("[1]", "must be an object"),
        ('{"speed": 1}', "do not fit the rule 'mlp'.*speed"),
        ('{"step_multiplier": -1}', "do not fit the rule 'mlp': `step_multiplier`=-1"),
    ]:
        with pytest.raises(ConfigError, match=f"`config.constants`=.*{message}"):
            rule_of(config("mlp", constants=constants))


def test_a_frozen_part_is_not_in_what_is_trained_and_comes_back():
    made = make_rule(config("scheduled_mlp", freeze="scheduler"), KEY)
    theta = made.optimizer.init(KEY)
    assert set(theta) == {"rule"}
    whole = made.complete(jax.tree.map(lambda x: x + 1, theta))
    assert set(whole) == {"rule", "scheduler"}
    expected = made.whole.init(KEY)
    jax.tree.map(np.testing.assert_array_equal, whole["scheduler"], expected["scheduler"])
    params = {"w": jnp.ones((3, 2))}
    tx, same = made.optimizer.build(theta, num_steps=9), made.whole.build(expected, num_steps=9)
    updates, _ = tx.update(params, tx.init(params), params, value=1.0)
    exact, _ = same.update(params, same.init(params), params, value=1.0)
    np.testing.assert_array_equal(updates["w"], exact["w"])


@pytest.fixture
def first_phase(tmp_path):
    rule = rule_of(config("scheduled_mlp"))
    theta = rule.init(jax.random.key(5))
    learned_opt.save(tmp_path / "first", rule, theta, meta_training={})
    return str(tmp_path / "first"), theta


def test_the_second_phase_begins_with_the_theta_of_the_first(first_phase):
    path, theta = first_phase
    made = make_rule(config("scheduled_mlp", constants="{}", initial=path, freeze="rule"), KEY)
    assert set(made.optimizer.init(KEY)) == {"scheduler"}
    jax.tree.map(np.testing.assert_array_equal, made.complete(made.optimizer.init(KEY)), theta)
    assert made.initial_sha256 == learned_opt.describe(path)["sha256"]
    begun = make_rule(config("scheduled_mlp", initial=path), KEY)
    jax.tree.map(np.testing.assert_array_equal, begun.optimizer.init(KEY), theta)


def test_what_does_not_go_together_is_named(first_phase):
    path, _ = first_phase
    for settings, message in [
        (config("optax"), "`config.rule`='optax' has no meta-parameters"),
        (config("scheduled_mlp", freeze="rules"), r"no part \['rules'\]; its parts: \['rule', 's"),
        (config("scheduled_mlp", freeze="rule,scheduler"), "leaves nothing to train"),
        (config("mlp", initial=path), "is of the rule 'scheduled_mlp' with another θ"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make_rule(settings, KEY)
    with pytest.raises(FileNotFoundError, match="no learned optimizer at"):
        make_rule(config("mlp", initial="nowhere"), KEY)


def test_presets_have_constants_of_their_rules():
    assert json.loads(TINY.constants)
    for rule, constants in CONSTANTS.items():
        assert rule_of(config(rule, constants=constants))
