"""Every offline family: one table of invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import OFFLINE_FAMILIES, SPLITS, UnknownTaskError, get_family, parameter_count
from tasks.image_models import PatchConv2D


@pytest.fixture(scope="module", params=OFFLINE_FAMILIES)
def family(request):
    return get_family(request.param)


@pytest.fixture(scope="module")
def splits(family):
    return family.load()


def test_initial_loss_is_near_what_the_family_states_and_adam_lowers_it(family, splits):
    """40 steps of Adam at 1e-2 take at least a fifth off the test loss of every one of 8 tasks."""

    @jax.jit
    @jax.vmap
    def train(key):
        task = family.build(family.sample(jax.random.fold_in(key, 0)))
        params, model_state = task.init(jax.random.fold_in(key, 1))
        tx = optax.adam(1e-2)
        scored = family.examples(splits["test"], 200)

        def step(carry, key):
            params, model_state, state = carry
            batch = family.batch(key, splits["train"])
            grads, (model_state, _) = jax.grad(task.loss, has_aux=True)(
                params, model_state, key, batch
            )
            updates, state = tx.update(grads, state)
            return (optax.apply_updates(params, updates), model_state, state), None

        before = task.loss(params, model_state, key, scored)[0]
        carry = (params, model_state, tx.init(params))
        (params, model_state, _), _ = jax.lax.scan(step, carry, jax.random.split(key, 40))
        return before, task.loss(params, model_state, key, scored)[0]

    before, after = train(jax.random.split(jax.random.key(0), 8))
    np.testing.assert_allclose(before, family.metadata.initial_loss, rtol=0.5)
    assert (after < 0.8 * before).all()


def test_a_batch_is_a_function_of_its_key(family, splits):
    batch = jax.jit(family.batch)
    first, again, other = (batch(jax.random.key(k), splits["train"]) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True))
    if family.metadata.data != "synthetic":
        assert first["image"].shape == (family.metadata.batch_size, 8, 8, 1)
        assert first["image"].dtype == jnp.float32


def test_examples_are_the_same_every_time_and_bounded(family, splits):
    for split in SPLITS:
        first, again = (family.examples(splits[split], 50) for _ in range(2))
        jax.tree.map(np.testing.assert_array_equal, first, again)
        if family.metadata.data != "synthetic":
            assert first["label"].shape == (50,)


def test_the_gradient_is_that_of_finite_differences(family, splits):
    """In double precision and with small steps, so that no kink of a ReLU lies between."""
    key = jax.random.key(3)
    cfg = family.sample(key)
    params, model_state = family.build(cfg).init(key)
    batch = family.batch(key, splits["train"])
    direction = jax.tree.map(lambda p: jax.random.normal(key, p.shape), params)
    with jax.enable_x64(True):

        def double(tree):
            return jax.tree.map(
                lambda x: np.asarray(x, float) if np.asarray(x).dtype == np.float32 else x, tree
            )

        @jax.jit
        def along(step):
            moved = jax.tree.map(lambda p, d: p + step * d, double(params), double(direction))
            return family.build(double(cfg)).loss(moved, model_state, key, double(batch))[0]

        step = 1e-6
        slope = (along(step) - along(-step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=1e-4, atol=1e-7)


def test_parameter_counts():
    counts = {name: parameter_count(get_family(name)) for name in OFFLINE_FAMILIES}
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
    "name",
    [
        "nope",
        "fashion_mnist_8x8_mlp",
        "fashion_mnist_8x8_mlp32_swish",
        "fashion_mnist_8x8_conv16_tanh",
        "fashion_mnist_8x8_softmax32",
        "fashion_mnist_8x9_mlp32",
        "quadratic0",
    ],
)
def test_an_unknown_task_lists_the_legal_ones(name):
    with pytest.raises(UnknownTaskError, match=f"unknown task '{name}'") as error:
        get_family(name)
    assert all(legal in str(error.value) for legal in OFFLINE_FAMILIES)
