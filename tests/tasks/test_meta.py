"""Meta-training as a task: the loss of a rule is that of a plain loop in NumPy."""

import jax
import numpy as np
import pytest

from tasks import get_family


def by_hand(family, params, batch, cfg):
    """L of the rules that have no network."""
    x = np.asarray(batch["start"], float)
    curvature = float(cfg["largest"]) * 10.0 ** -np.asarray(batch["exponent"], float)
    noise = float(cfg["noise"]) * np.asarray(batch["noise"], float)
    first = 0.5 * (curvature * x**2).sum(axis=1)
    params = next(iter(params.values()))
    mean, values = np.zeros_like(x), []
    for t in range(noise.shape[1]):
        gradient = curvature * x + noise[:, t]
        if "log_rates" in params:
            x = x - np.exp(float(params["log_rates"][t])) * gradient
        else:
            mean = mean / (1 + np.exp(-float(params["momentum"]))) + gradient
            x = x - np.exp(float(params["log_rate"])) * mean
        values.append(0.5 * (curvature * x**2).sum(axis=1) / first)
    return np.mean(values)


@pytest.mark.parametrize("name", ["meta_quadratics.0", "meta_quadratics.1"])
def test_the_loss_of_a_rule_is_that_of_a_plain_loop(name):
    family = get_family(name)
    cfg = family.sample(jax.random.key(1))
    task = family.build(cfg)
    params, state = task.init(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 2.5 + 0.1 * np.arange(p.size).reshape(p.shape), params)
    batch = family.batch(jax.random.key(2), family.load()["train"])
    found = task.loss(params, state, None, batch)[0]
    assert float(found) == pytest.approx(by_hand(family, params, batch, cfg), rel=1e-4)
    assert float(found) < 0.95


def test_a_network_that_puts_out_nothing_leaves_the_loss_at_one():
    family = get_family("meta_quadratics.2")
    task = family.build(family.sample(jax.random.key(1)))
    params, state = task.init(jax.random.key(0))
    batch = family.batch(jax.random.key(2), family.load()["train"])
    nothing = jax.tree.map(np.zeros_like, params)
    assert float(task.loss(nothing, state, None, batch)[0]) == pytest.approx(1)
    biased = jax.tree_util.tree_map_with_path(
        lambda path, p: p + 1 if jax.tree_util.keystr(path).endswith("logits']['b']") else p,
        nothing,
    )
    # Every entry moves by −0.1 a step, whatever its gradient.
    cfg = family.sample(jax.random.key(1))
    x, h = np.asarray(batch["start"]), float(cfg["largest"]) * 10.0 ** -batch["exponent"]
    values = [(h * (x - 0.1 * t) ** 2).sum(1) / (h * x**2).sum(1) for t in range(1, 11)]
    found = task.loss(biased, state, None, batch)[0]
    assert float(found) == pytest.approx(np.mean(values), rel=1e-4)
