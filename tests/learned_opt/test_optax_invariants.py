"""Every rule is an optax transformation like any other: one table of invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import RULES


@pytest.fixture(scope="module", params=sorted(RULES))
def tx(request):
    rule = RULES[request.param]()
    return rule.build(rule.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def params():
    keys = iter(jax.random.split(jax.random.key(1), 8))
    return {
        "matrix": jax.random.normal(next(keys), (4, 3)),
        "nested": [jax.random.normal(next(keys), (5,)), jax.random.normal(next(keys), ())],
        "kernel": jax.random.normal(next(keys), (2, 2, 3, 4)),
        "empty": jnp.zeros((0, 3)),
    }


@pytest.fixture(scope="module")
def one_step(tx, params):
    return jax.jit(tx.update)(params, tx.init(params), params)


def assert_close(actual, expected, **tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def test_updates_are_like_the_parameters(one_step, params):
    updates, _ = one_step
    assert_same = jax.tree.map(
        lambda u, p: (u.shape, u.dtype) == (p.shape, p.dtype), updates, params
    )
    assert all(jax.tree.leaves(assert_same))
    assert all(np.isfinite(u).all() for u in jax.tree.leaves(updates))
    assert float(optax.tree.norm(updates)) > 0


def test_every_tensor_is_updated_on_its_own(tx, params, one_step):
    alone = {"matrix": params["matrix"]}
    updates, _ = tx.update(alone, tx.init(alone), alone)
    np.testing.assert_allclose(updates["matrix"], one_step[0]["matrix"], rtol=1e-4, atol=1e-8)


def test_the_loss_and_unknown_extras_pass(tx, params, one_step):
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params, value=1.0, anything=2)
    assert_close(updates, one_step[0], rtol=1e-6)


def test_without_params_it_says_so(tx, params):
    with pytest.raises(ValueError, match="`params`=None"):
        tx.update(params, tx.init(params))


def test_a_second_step_traces_nothing(tx, params):
    traces = []

    @jax.jit
    def update(grads, state, params):
        traces.append(1)
        return tx.update(grads, state, params)

    state = tx.init(params)
    for _ in range(3):
        _, state = update(params, state, params)
    assert len(traces) == 1


def test_chain_masked_and_multi_steps(tx, params, one_step):
    state_shape = jax.eval_shape(tx.init, params)
    assert jax.tree.structure(state_shape) == jax.tree.structure(tx.init(params))

    chained = optax.chain(optax.clip_by_global_norm(1e9), tx, optax.scale(2.0))
    updates, _ = jax.jit(chained.update)(params, chained.init(params), params, value=1.0)
    assert_close(updates, jax.tree.map(lambda u: 2 * u, one_step[0]), rtol=1e-4, atol=1e-8)

    mask = {"matrix": True, "nested": [False, True], "kernel": False, "empty": True}
    masked = optax.masked(tx, mask)
    updates, _ = jax.jit(masked.update)(params, masked.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], params["kernel"])
    np.testing.assert_allclose(updates["matrix"], one_step[0]["matrix"], rtol=1e-4, atol=1e-8)

    labels = {"matrix": "a", "nested": ["b", "b"], "kernel": "a", "empty": "b"}
    both = optax.multi_transform({"a": tx, "b": optax.sgd(1.0)}, labels)
    updates, _ = jax.jit(both.update)(params, both.init(params), params)
    np.testing.assert_allclose(updates["kernel"], one_step[0]["kernel"], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(updates["nested"][0], -params["nested"][0])


def test_vmap_over_models_and_scan_over_steps(tx, params, one_step):
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), params)

    def train(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params, value=0.0)
            return (optax.apply_updates(params, updates), state), updates

        return jax.lax.scan(step, (params, tx.init(params)), length=3)[1]

    first = jax.tree.map(lambda u: u[0, 0], jax.jit(jax.vmap(train))(many))
    assert_close(first, one_step[0], rtol=1e-4, atol=1e-8)


def test_bfloat16_parameters_get_bfloat16_updates_from_float32_state(tx, params, one_step):
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    updates, state = jax.jit(tx.update)(half, tx.init(half), half)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert jnp.bfloat16 not in {s.dtype for s in jax.tree.leaves(state)}
    as_float = jax.tree.map(lambda u: np.asarray(u, np.float32), updates)
    assert_close(as_float, one_step[0], rtol=0.2, atol=2e-5)


def test_python_scalars_are_parameters_too(tx):
    numbers, arrays = {"a": 1.5, "b": -2.0}, {"a": jnp.asarray(1.5), "b": jnp.asarray(-2.0)}
    updates, state = tx.update(numbers, tx.init(numbers), numbers)
    expected, _ = tx.update(arrays, tx.init(arrays), arrays)
    assert_close(updates, expected, rtol=1e-6)
    assert state.step == 1


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, bool])
def test_leaves_that_are_not_real_numbers_are_refused(tx, dtype):
    params = {"float": jnp.ones(2), "other": jnp.ones(3, dtype)}
    with pytest.raises(TypeError, match=rf"has dtype {jnp.dtype(dtype)}.*optax.masked"):
        tx.update(params, tx.init(params), params)


def test_an_empty_tree_passes(tx):
    assert tx.update({}, tx.init({}), {})[0] == {}


def test_sharded_parameters_keep_their_sharding(tx):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = jax.device_put(jax.random.normal(jax.random.key(0), (16, 3)), sharding)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    whole = np.asarray(params)
    expected, _ = tx.update(whole, tx.init(whole), whole)
    np.testing.assert_allclose(updates, expected, rtol=1e-4, atol=1e-8)
