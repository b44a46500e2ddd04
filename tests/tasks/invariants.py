"""The table of invariants that every task of the zoo is held to."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tasks import SPLITS, parameter_count

SCORED, RUNS, NEAR = 200, 2, 0.5
TWICE, PIECE = 0.05, 64
LARGEST_FOR_DIFFERENCES = 300_000


def check(family, adam):
    """All of them; ``adam`` is what the zoo's table states of the family."""
    splits = family.load()
    assert set(splits) == set(SPLITS)
    check_batches(family, splits)
    check_training(family, splits, adam)
    if parameter_count(family) <= LARGEST_FOR_DIFFERENCES:
        check_gradient(family, splits)


def check_batches(family, splits):
    """The same key gives the same batch, another key or split another one."""
    traces = []

    @jax.jit
    def batch(key, arrays):
        traces.append(0)
        return family.batch(key, arrays)

    first, again, other = (batch(jax.random.key(k), splits["train"]) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert _differ(first, other)
    assert len(traces) == 1
    examples = jax.jit(lambda arrays: family.examples(arrays, 50))
    scored = [examples(splits[split]) for split in SPLITS]
    jax.tree.map(np.testing.assert_array_equal, scored[0], examples(splits["train"]))
    if family.load()["train"]:
        assert _differ(scored[0], scored[3])
    check_splits_are_disjoint(splits)


def check_splits_are_disjoint(splits):
    """Hardly an example of a set is in two splits: some sets have an image twice."""
    if not splits["train"]:
        return  # noise alone
    if "split" in splits["train"]:
        assert len({int(splits[split]["split"]) for split in SPLITS}) == len(SPLITS)
        return
    rows = {split: _rows(arrays) for split, arrays in splits.items()}
    for one, other in combinations(SPLITS, 2):
        twice = len(set(rows[one]) & set(rows[other]))
        assert twice <= TWICE * min(len(rows[one]), len(rows[other])), (one, other)


def _rows(arrays):
    """The examples of a split as bytes: rows of its arrays, or pieces of one long sequence."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]
    count = max(leaf.shape[0] for leaf in leaves if leaf.ndim)
    whole = [leaf for leaf in leaves if leaf.ndim and leaf.shape[0] == count]
    if len(whole) == 1 and whole[0].ndim == 1:
        whole = [whole[0][: count // PIECE * PIECE].reshape(-1, PIECE)]
    return [b"".join(parts) for parts in zip(*(_bytes(leaf) for leaf in whole), strict=True)]


def _bytes(leaf):
    return [row.tobytes() for row in np.ascontiguousarray(leaf)]


def check_training(family, splits, adam):
    """Initial loss near its bound, Adam lowers it as stated; vmapped, traced once, dtypes kept."""
    traces = []
    tx = optax.adam(adam.rate)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    def train(key, arrays, scored):
        traces.append(0)
        task = family.build(family.sample(jax.random.fold_in(key, 0)))
        params, model_state = task.init(jax.random.fold_in(key, 1))

        def step(carry, key):
            params, model_state, state = carry
            batch = family.batch(key, arrays)
            (_, (new_state, _)), gradient = task.value_and_gradient(params, model_state, key, batch)
            assert _types(new_state) == _types(model_state)
            assert _types(gradient) == _types(params)
            updates, state = tx.update(gradient, state)
            return (optax.apply_updates(params, updates), new_state, state), None

        before, _ = task.loss(params, model_state, key, scored)
        assert (before.shape, before.dtype) == ((), jnp.float32)
        carry = (params, model_state, tx.init(params))
        keys = jax.random.split(jax.random.fold_in(key, 2), adam.steps)
        (trained, model_state, _), _ = jax.lax.scan(step, carry, keys)
        assert _types(trained) == _types(params)
        return before, task.loss(trained, model_state, key, scored)[0]

    scored = family.examples(splits["test"], SCORED)
    before, after = train(jax.random.split(jax.random.key(0), RUNS), splits["train"], scored)
    train(jax.random.split(jax.random.key(9), RUNS), splits["train"], scored)
    assert len(traces) == 1
    assert np.isfinite(before).all()
    np.testing.assert_allclose(before, family.metadata.initial_loss, rtol=NEAR)
    assert (after <= adam.share * before).all(), (before, after)


def check_gradient(family, splits):
    """∇ loss is that of finite differences, in double precision; so no kink lies between."""
    key = jax.random.key(3)
    cfg = family.sample(key)
    params, model_state = jax.jit(family.build(cfg).init)(key)
    batch = jax.jit(family.batch)(key, splits["train"])
    direction = jax.tree.map(lambda p: jax.random.normal(key, p.shape, p.dtype), params)
    norm = optax.tree.norm(direction)
    direction = jax.tree.map(lambda d: d / norm, direction)
    with jax.enable_x64(True):

        def along(step):
            moved = jax.tree.map(lambda p, d: p + step * d, _double(params), _double(direction))
            task = family.build(_double(cfg))
            return task.loss(moved, _double(model_state), key, _double(batch))[0]

        step, both = 1e-6, jax.jit(jax.value_and_grad(along))  # one program for all three
        slope = (both(step)[0] - both(-step)[0]) / (2 * step)
        np.testing.assert_allclose(both(0.0)[1], slope, rtol=1e-4, atol=1e-7)


def _double(tree):
    return jax.tree.map(
        lambda x: np.asarray(x, float) if getattr(x, "dtype", None) == np.float32 else x, tree
    )


def _types(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _differ(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.shape(a) != np.shape(b) or (np.asarray(a) != np.asarray(b)).any()
               for a, b in leaves)  # fmt: skip
