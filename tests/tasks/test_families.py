"""Families by name, and what is particular to some of them."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import UnknownTaskError, get_family, offline_tasks, parameter_count
from tasks.images.convolutions import PatchConv2D


def test_parameter_counts():
    counts = {name: parameter_count(get_family(name)) for name in offline_tasks()}
    assert counts["fashion_mnist_8x8_mlp32"] == 64 * 32 + 32 + 32 * 10 + 10
    assert counts["fashion_mnist_8x8_softmax"] == 650
    assert counts["fashion_mnist_8x8_conv16x32"] == 9 * 16 + 16 + 9 * 16 * 32 + 32 + 330
    assert counts["quadratic32"] == 32


def test_a_varied_family_draws_activations_and_scales():
    family = get_family("fashion_mnist_8x8_mlp32_varied")
    drawn = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 400))
    assert set(np.unique(drawn["activation"])) == {0, 1, 2, 3}
    assert 0.3 <= drawn["init_scale"].min() < 0.35
    assert 2.5 < drawn["init_scale"].max() <= 3.0
    assert np.log(np.asarray(drawn["init_scale"])).mean() == pytest.approx(
        np.log(0.9) / 2, abs=5 * 0.66 / 20
    )

    def norm(scale):
        task = family.build({"activation": 0, "init_scale": scale})
        return float(optax.tree.norm(task.init(jax.random.key(1))[0]["hidden_0"]))

    assert norm(2.0) == pytest.approx(2 * norm(1.0))


def test_a_quadratic_is_what_its_equation_says():
    family = get_family("quadratic32")
    cfg = family.sample(jax.random.key(5))
    task = family.build(cfg)
    params, _ = task.init(jax.random.key(0))
    spectrum = np.asarray(cfg["spectrum"], float)
    assert (spectrum > 0.9e-3).all()
    assert (spectrum <= 1).all()
    rotation = np.asarray(cfg["rotation"], float)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(32), atol=1e-5)
    hessian = rotation @ np.diag(spectrum) @ rotation.T
    gap = np.asarray(params["x"] - cfg["minimum"], float)
    scale = 1 / (0.5 * gap @ hessian @ gap)
    noise = np.asarray(jax.random.normal(jax.random.key(1), (32,)))
    gradient = jax.grad(lambda p, n: task.loss(p, {}, None, {"noise": n})[0])
    np.testing.assert_allclose(
        gradient(params, noise)["x"],
        scale * hessian @ gap + float(cfg["noise"]) * noise,
        rtol=1e-4,
        atol=1e-5,
    )
    at_start = task.loss(params, {}, None, family.examples({}, 1))[0]
    assert float(at_start) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (4, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_patch_convolution_is_the_haiku_convolution(size, stride):
    import haiku as hk

    images = jax.random.normal(jax.random.key(0), (3, *size, 4))
    ours = hk.without_apply_rng(hk.transform(lambda x: PatchConv2D(6, stride, name="conv")(x)))
    theirs = hk.without_apply_rng(
        hk.transform(lambda x: hk.Conv2D(6, 3, stride=stride, name="conv")(x))
    )
    params = ours.init(jax.random.key(1), images)
    params["conv"]["b"] = params["conv"]["b"] + 0.3
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, theirs.init(jax.random.key(1), images)
    )
    np.testing.assert_allclose(
        ours.apply(params, images), theirs.apply(params, images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("nope", ""),
        ("fashion_mnist_8x8_mlp", "; near it are fashion_mnist_8x8_mlp"),
        ("fashion_mnist_8x8_mlp32_swish", "fashion_mnist_8x8_mlp32"),
        ("fashion_mnist_8x8_conv16_swish", "fashion_mnist_8x8_conv16x32"),
        ("fashion_mnist_8x8_softmax32", "fashion_mnist_8x8_softmax"),
        ("fashion_mnist_8x9_mlp32", "fashion_mnist_8x8_mlp32"),
        ("quadratic0", "quadratic32"),
        ("quadratics.4", "quadratics"),
        ("quadratics.", "quadratics"),
    ],
)
def test_an_unknown_task_is_told_what_there_is(name, near):
    with pytest.raises(UnknownTaskError, match=f"unknown task {re.escape(repr(name))}") as error:
        get_family(name)
    told = str(error.value)
    assert near in told
    assert "`python -m tasks list` has all of them" in told
    assert "mlp32x32" in told


def test_a_parametric_family_goes_by_its_name_and_a_member_by_its_number():
    assert get_family("quadratics").name == "quadratics"
    assert parameter_count(get_family("quadratics")) == 2
    assert get_family("quadratics.3").name == "quadratics.3"
    assert parameter_count(get_family("quadratics.3")) == 128


def test_importing_the_zoo_is_quick_and_builds_nothing():
    """Less than 0.3 s beside JAX, and none of what only a task that is built needs."""
    code = """
import sys, time
import jax
start = time.perf_counter()
import tasks
print(time.perf_counter() - start)
print([name for name in ("haiku", "tensorflow_datasets", "matplotlib") if name in sys.modules])
print([name for name in sys.modules if name.startswith("tasks.domains.")])
print(jax._src.xla_bridge.backends_are_initialized())
"""
    outcomes = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, *rest = zip(*(outcome.stdout.splitlines() for outcome in outcomes), strict=True)
    assert min(map(float, seconds)) < 0.3
    assert [set(answer) for answer in rest] == [{"[]"}, {"[]"}, {"False"}]
