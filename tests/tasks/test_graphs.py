"""Sets and graphs: no order of elements or nodes matters, and layers are their equations."""

import itertools
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.architectures import ModelName
from tasks.graphs import networks, sets, triangles
from tasks.graphs.communities import block_model, community_family, sample_contrast
from tasks.graphs.sets import SIZE, STATISTICS, set_family

NODES = 6


def random_graph(seed, features=3):
    random = np.random.default_rng(seed)
    above = np.triu(random.random((2, NODES, NODES)) < 0.4, 1)
    adjacency = (above | above.transpose(0, 2, 1)).astype(np.float32)
    return random.normal(size=(2, NODES, features)).astype(np.float32), adjacency


def transformed(function, *example):
    """(function, parameters whose biases are not zero)."""
    network = hk.without_apply_rng(hk.transform(function))

    @jax.jit
    def init(key):
        params = network.init(key, *example)
        return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(key, p.shape), params)

    return jax.jit(network.apply), jax.tree.map(np.asarray, init(jax.random.key(0)))


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_nodes_in_another_order_have_the_same_outputs_in_that_order(name):
    nodes, adjacency = random_graph(0)
    apply, params = transformed(networks.ARCHITECTURES[name].make((5, 4), ""), nodes, adjacency)
    outputs = apply(params, nodes, adjacency)
    order = np.random.default_rng(1).permutation(NODES)
    permuted = apply(params, nodes[:, order], adjacency[:, order][:, :, order])
    np.testing.assert_allclose(permuted, outputs[:, order], rtol=1e-4, atol=1e-5)
    assert np.abs(permuted - outputs).max() > 0.1
    # What is two edges away is seen, what is three away is not.
    line = np.zeros_like(adjacency)
    for i in range(NODES - 1):
        line[:, i, i + 1] = line[:, i + 1, i] = 1
    other = nodes.copy()
    other[:, 0] += 1
    moved = np.abs(apply(params, nodes, line) - apply(params, other, line)).max(axis=(0, 2))
    np.testing.assert_array_equal(moved[3:], 0)


def test_layers_are_their_equations_node_by_node():
    nodes, adjacency = random_graph(2)

    def outputs(name):
        apply, params = transformed(networks.ARCHITECTURES[name].make((4,), ""), nodes, adjacency)
        return apply(params, nodes, adjacency)[0], params

    x, joined = nodes[0].astype(float), adjacency[0] + np.eye(NODES)
    degree = joined.sum(axis=1)
    near = [np.flatnonzero(row) for row in joined]

    found, params = outputs("gcn")
    w, b = params["layer_0/gcn"]["w"], params["layer_0/gcn"]["b"]
    mixed = [sum(x[j] / np.sqrt(degree[i] * degree[j]) for j in near[i]) for i in range(NODES)]
    np.testing.assert_allclose(found, np.maximum(np.asarray(mixed) @ w + b, 0), atol=1e-4)

    found, params = outputs("gin")
    first, second = params["layer_0/gin_hidden"], params["layer_0/gin"]
    gathered = [x[i] + sum(x[j] for j in near[i] if j != i) / NODES**0.5 for i in range(NODES)]
    hidden = np.maximum(np.asarray(gathered) @ first["w"] + first["b"], 0)
    np.testing.assert_allclose(found, np.maximum(hidden @ second["w"] + second["b"], 0), atol=1e-4)

    found, params = outputs("gat")
    values = x @ params["layer_0/gat_values"]["w"]
    sends, reads = (values @ params["layer_0/gat_scores"]["w"]).T
    for i in range(NODES):
        scores = sends[i] + reads[near[i]]
        weights = np.exp(np.where(scores > 0, scores, 0.01 * scores))
        mean = weights @ values[near[i]] / weights.sum() + params["layer_0"]["gat_bias"]
        np.testing.assert_allclose(found[i], np.maximum(mean, 0), atol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_set_in_another_order_is_the_same_set(pool):
    numbers = np.random.default_rng(0).normal(size=(3, SIZE)).astype(np.float32)
    apply, params = transformed(sets.ARCHITECTURES["deepsets"].make((6, 5), pool), numbers)
    order = np.random.default_rng(1).permutation(SIZE)
    answers = apply(params, numbers)
    np.testing.assert_allclose(apply(params, numbers[:, order]), answers, rtol=1e-4, atol=1e-5)
    assert np.ptp(answers) > 1e-3


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_of_sets_and_the_loss_of_an_answer_of_zero(statistic):
    family = set_family("sets", statistic, ModelName("deepsets", (4,), ""))
    batch = jax.tree.map(np.asarray, family.examples(family.load()["test"], 20_000))
    numbers = batch["input"].astype(float)
    expected = {
        "maximum": numbers.max(axis=1) - sets.MEAN_OF_MAXIMUM,
        "spread": np.log(numbers.std(axis=1, ddof=1)),
    }[statistic]
    np.testing.assert_allclose(batch["target"], expected, rtol=1e-4, atol=1e-4)
    square = np.mean(np.square(expected))
    error = 5 * np.std(np.square(expected)) / math.sqrt(20_000)
    assert family.metadata.initial_loss == pytest.approx(square, abs=error)


def test_triangles_are_those_of_three_nodes_at_a_time():
    batch = jax.tree.map(np.asarray, triangles.random_graphs(jax.random.key(0), 4))
    count = math.comb(triangles.NODES, 3)
    for a, target in zip(batch["adjacency"], batch["target"], strict=True):
        np.testing.assert_array_equal(a, a.T)
        assert set(np.unique(a)) <= {0, 1}
        assert not a.diagonal().any()
        found = sum(
            a[i, j] * a[j, k] * a[i, k]
            for i, j, k in itertools.combinations(range(triangles.NODES), 3)
        )
        root = (found / count) ** (1 / 3)
        assert target == pytest.approx((root - 0.35) / math.sqrt(0.25 / 12), abs=1e-4)
    many = np.asarray(triangles.random_graphs(jax.random.key(1), 10_000)["target"], float)
    error = 5 * np.std(many**2) / 100
    assert np.mean(many**2) == pytest.approx(triangles.SQUARE, abs=error)


def test_a_block_model_has_the_densities_and_shows_the_share_that_is_said():
    family = community_family("communities", ModelName("gcn", (4,), ""))
    batch = family.examples(family.load()["train"], 400)
    cfg = jax.tree.map(jnp.float32, {"within": 0.7, "between": 0.2, "told": 0.4})
    nodes, adjacency = map(np.asarray, block_model(cfg, batch))
    label = np.asarray(batch["label"])
    np.testing.assert_array_equal(adjacency, adjacency.transpose(0, 2, 1))
    pairs = np.triu(np.ones(adjacency.shape[1:], bool), 1)
    same = label[:, :, None] == label[:, None, :]
    for chosen, density in ((same & pairs, 0.7), (~same & pairs, 0.2)):
        deviation = math.sqrt(density * (1 - density) / chosen.sum())
        assert adjacency[chosen].mean() == pytest.approx(density, abs=5 * deviation)
    assert not adjacency[:, np.arange(16), np.arange(16)].any()
    told = nodes[..., 1:].sum(axis=2) > 0
    assert told.mean() == pytest.approx(0.4, abs=5 * math.sqrt(0.24 / told.size))
    np.testing.assert_array_equal(nodes[..., 1:].argmax(axis=2)[told], label[told])
    assert (nodes[..., 0] == 1).all()
    drawn = jax.vmap(sample_contrast)(jax.random.split(jax.random.key(0), 100))
    assert (drawn["within"] > drawn["between"]).all()
