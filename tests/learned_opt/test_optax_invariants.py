"""Every rule is an optax transformation like any other: one table of invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from checkpoints import TrainingCheckpoints
from learned_opt import RULES
from tests.learned_opt.rules_table import ROWS, STEPS, build, make, parameters, quick_jit, small

FAST = ("mlp", "adafactor_mlp", "normalized_mlp", "scheduled_mlp", "hyper", "optax")


@pytest.fixture(
    scope="module",
    params=[n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in ROWS],
)
def row(request):
    return ROWS[request.param]


@pytest.fixture(scope="module")
def tx(row):
    return build(row)


@pytest.fixture(scope="module")
def params():
    return small()


@pytest.fixture(scope="module")
def traces():
    return []


@pytest.fixture(scope="module")
def update(tx, traces):
    """One program for all tests that need the plain update of the small model."""

    def counted(grads, state, params):
        traces.append(jax.tree.structure(params))
        return tx.update(grads, state, params, value=1.0, anything=2)

    return quick_jit(counted)


@pytest.fixture(scope="module")
def one_step(tx, params, update):
    return update(params, tx.init(params), params)


def assert_close(actual, expected, rtol=1e-4, atol=1e-7):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected
    )


def kinds(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def test_the_table_has_every_rule():
    variants = {"adafactor_mlp_h32"}
    assert {row.rule for row in ROWS.values()} == set(RULES) - variants


def test_updates_are_like_the_parameters_of_any_rank(tx):
    params = parameters()
    updates, _ = quick_jit(tx.update)(params, tx.init(params), params, value=1.0)
    assert kinds(updates) == kinds(params)
    for update in jax.tree.leaves(updates):
        assert np.isfinite(update).all()
        assert update.size == 0 or np.abs(update).max() > 1e-6


def test_a_second_step_keeps_the_state_and_traces_nothing(update, tx, params, one_step, traces):
    _, state = one_step
    assert kinds(jax.eval_shape(tx.init, params)) == kinds(tx.init(params)) == kinds(state)
    before = len(traces)
    for _ in range(2):
        _, state = update(params, state, params)
    assert len(traces) == before


def test_what_is_missing_is_named_and_the_loss_may_be_missing_where_it_is_not_read(row, tx, params):
    rule, theta = make(row)
    state = tx.init(params)
    if row.rule != "optax":  # optax's own optimizers say for themselves what they need
        with pytest.raises(ValueError, match="`params`=None"):
            tx.update(params, state, value=1.0)
    if rule.reads_num_steps:
        with pytest.raises(ValueError, match=f"`num_steps`=None: the rule '{row.rule}'"):
            rule.build(theta)
    if rule.reads_loss:
        with pytest.raises(ValueError, match=f"`value`=None: the rule '{row.rule}'"):
            tx.update(params, state, params)
    else:
        updates, _ = jax.eval_shape(tx.update, params, state, params)
        assert kinds(updates) == kinds(params)


def test_wrapped_in_the_transformations_of_optax(row, tx, params, one_step):
    """All of them in one program: chain, apply_if_finite, masked, partition, MultiSteps."""
    expected, _ = one_step
    mask = {"matrix": True, "v": False}
    labels = {"matrix": "learned", "v": "plain"}
    wrapped = {
        "chain": optax.chain(optax.clip_by_global_norm(1e9), tx, optax.scale(2.0)),
        "apply_if_finite": optax.apply_if_finite(tx, max_consecutive_errors=3),
        "masked": optax.masked(tx, mask),
        "partition": optax.partition({"learned": tx, "plain": optax.sgd(1.0)}, labels),
        "multi_steps": optax.MultiSteps(tx, every_k_schedule=2),
    }

    @quick_jit
    def update(grads, states, params):
        results = {
            name: w.update(grads, states[name], params, value=1.0) for name, w in wrapped.items()
        }
        return {k: v[0] for k, v in results.items()}, {k: v[1] for k, v in results.items()}

    updates, states = update(params, {n: w.init(params) for n, w in wrapped.items()}, params)
    assert_close(updates["chain"], jax.tree.map(lambda u: 2 * u, expected))
    assert_close(updates["apply_if_finite"], expected)
    assert_close(updates["masked"]["v"], params["v"], rtol=0)
    assert_close(updates["partition"]["v"], -params["v"], rtol=0)
    assert_close(updates["partition"]["matrix"], updates["masked"]["matrix"])
    if row.rule != "rnn_mlp":  # whose tensors tell each other what they see
        assert_close(updates["masked"]["matrix"], expected["matrix"])
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates["multi_steps"]))

    broken = jax.tree.map(lambda p: p * np.nan, params)
    updates, _ = update(broken, states, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates["apply_if_finite"]))
    updates, _ = update(params, states, params)
    assert_close(updates["multi_steps"], expected)


def test_inject_hyperparams(row, params, one_step):
    rule, theta = make(row)

    def factory(value):
        changed = {"learning_rate": value} if row.hyperparameter == "arguments" else value
        constants = {**row.constants, row.hyperparameter: changed}
        return RULES[row.rule](**constants).build(theta, num_steps=STEPS)

    value = rule.constants[row.hyperparameter]
    value = value["learning_rate"] if isinstance(value, dict) else value
    injected = optax.inject_hyperparams(factory)(value=value)
    update = quick_jit(injected.update)
    updates, state = update(params, injected.init(params), params, value=1.0)
    assert_close(updates, one_step[0])
    state.hyperparams["value"] = jnp.asarray(0.5 * value)
    _, after = update(params, state, params, value=1.0)
    assert after.hyperparams["value"] == pytest.approx(0.5 * value)


def test_vmap_over_models_and_scan_over_steps(tx, params, one_step):
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)

    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params, value=1.0)
            return (optax.apply_updates(params, updates), state), updates

        return jax.lax.scan(step, (params, tx.init(params)), length=2)[1]

    first = jax.tree.map(lambda u: u[0, 0], quick_jit(jax.vmap(train))(many))
    assert_close(first, one_step[0])


def test_bfloat16_parameters_get_bfloat16_updates_from_float32_state(tx, params, one_step):
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    updates, state = quick_jit(tx.update)(half, tx.init(half), half, value=1.0)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert kinds(state) == kinds(tx.init(half))
    for name, update in updates.items():
        scale = np.abs(one_step[0][name]).max()
        np.testing.assert_allclose(np.float32(update) / scale, one_step[0][name] / scale, atol=0.15)


def test_the_state_can_be_in_bfloat16(row, params, one_step):
    if not row.state_dtype:
        with pytest.raises(TypeError, match="state_dtype"):
            RULES[row.rule](state_dtype="bfloat16")
        return
    tx = build(row, state_dtype="bfloat16")
    state = tx.init(params)
    half, single = (
        sum(x.nbytes for x in jax.tree.leaves(s) if x.shape[-2:] == (4, 3))
        for s in (state, build(row).init(params))
    )
    assert 2 * half == single > 0
    updates, after = quick_jit(tx.update)(params, state, params, value=1.0)
    assert kinds(after) == kinds(state)
    assert_close(updates, one_step[0], rtol=1e-3)  # the first step reads no state
    with pytest.raises(ValueError, match="`state_dtype`='float16': must be one of"):
        RULES[row.rule](state_dtype="float16")


def test_python_scalars_and_an_empty_tree_are_parameters_too(tx):
    numbers = {"a": 1.5, "b": -2.0}
    shapes = jax.eval_shape(lambda: tx.update(numbers, tx.init(numbers), numbers, value=1.0)[0])
    assert {k: v.shape for k, v in shapes.items()} == {"a": (), "b": ()}
    assert tx.update({}, tx.init({}), {}, value=1.0)[0] == {}


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, bool])
def test_leaves_that_are_not_real_numbers_are_refused(row, tx, dtype):
    params = {"float": jnp.ones(2), "other": jnp.ones(3, dtype)}
    if row.rule != "optax":
        with pytest.raises(TypeError, match=rf"has dtype {jnp.dtype(dtype)}.*optax.masked"):
            tx.init(params)


def split_over_devices(leaf, kind):
    """Over eight devices, along the last axis but one, or the only one."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    axes = [None] * leaf.ndim
    axes[-2 if leaf.ndim > 1 else -1] = "x"
    spec = jax.sharding.PartitionSpec(*axes)
    return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec))


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_state_and_updates_are_sharded_like_the_parameters(row, tx, kind):
    keys = jax.random.split(jax.random.key(0))
    whole = {
        "kernel": jax.random.normal(keys[0], (2, 24, 3)),
        "vector": jax.random.normal(keys[1], (8,)),
    }
    expected, _ = quick_jit(tx.update)(whole, tx.init(whole), whole, value=1.0)
    params = {name: split_over_devices(leaf, kind) for name, leaf in whole.items()}
    with jax.set_mesh(jax.make_mesh((8,), ("x",), axis_types=(kind,))):
        state = tx.init(params)
        big = [x for x in jax.tree.leaves(state) if 24 in x.shape]
        assert big
        assert all(not x.sharding.is_fully_replicated for x in big)
        updates, _ = quick_jit(tx.update)(params, state, params, value=1.0)
    for name, update in updates.items():
        np.testing.assert_allclose(update, expected[name], rtol=1e-3, atol=1e-6, err_msg=name)
        if kind == jax.sharding.AxisType.Explicit:
            assert update.sharding.is_equivalent_to(params[name].sharding, update.ndim)


def test_the_state_goes_through_a_checkpoint(tx, params, update, one_step, tmp_path):
    _, state = one_step
    saved = TrainingCheckpoints(tmp_path, keep=1, run={})
    saved.save(1, state)
    saved.wait()
    restored = saved.restore(1, jax.eval_shape(tx.init, params))
    saved.close()
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
    expected, _ = update(params, state, params)
    actual, _ = update(params, restored, params)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
