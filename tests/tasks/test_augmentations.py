"""Every augmentation: one table of invariants, and a closed form of its gradient."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from learned_opt import LearnedOptimizer
from meta_train.assemble import assemble
from meta_train.presets import TINY
from meta_train.problems.optimizer_training import meta_data, optimizer_training
from tasks import (
    AUGMENTATIONS,
    AugmentationError,
    Task,
    UnknownTaskError,
    get_family,
    parameter_count,
)
from tasks.augmentations import augment
from tests.meta_train.stubs import SGD, scalar_family

BASE = "fashion_mnist_8x8_mlp16"
TABLE = {
    "reparametrize_global:0.1:10": 1e-5,
    "reparametrize_tensor:0.1:10": 1e-5,
    "reparametrize_parameter:0.1:10": 1e-5,
    "subspace:100": 0,
    "cast:bfloat16": 0.02,
    "cast:float16": 0.002,
    "batch:16": 1e-5,
    "label_noise:0.5": 0,
    "permute_pixels:3": 0,
    "scale_gradient:3": 0,
    "scale_loss:3": 1e-6,
    "delay:2": 0,
    "flip": 0,
    "crop:2": 0,
    "noise:0.5": 0,
    "mixup:0.4": 0,
}
"""Augmentations, and how exactly the loss at initialisation is the stated one."""

DRAWN_OR_KEPT = ("reparametrize_parameter:0.1:10", "subspace:100", "delay:2")
"""Of the kinds whose tasks differ or remember: they are compiled twice."""

KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.fixture(scope="module")
def base():
    return get_family(BASE)


@pytest.fixture(scope="module")
def gradients():
    """A function of a family that gives, for three keys, all that a first step sees of it."""
    cached = {}

    def of(family, splits=None):
        if family.name not in cached:
            arrays = (splits or family.load())["train"]
            cached[family.name] = jax.jit(jax.vmap(first_step(family), in_axes=(0, None)))(
                KEYS, arrays
            )
        return cached[family.name]

    return of


def first_step(family):
    def of_key(key, arrays):
        keys = jax.random.split(key, 4)
        cfg = family.sample(keys[0])
        task = family.build(cfg)
        params, state = task.init(keys[1])
        batch = family.training_batch(keys[2], arrays)
        plain, (_, plain_metrics) = task.loss(params, state, keys[3], batch)
        (value, (after, metrics)), gradient = task.value_and_gradient(params, state, keys[3], batch)
        return dict(
            cfg=cfg, params=params, state=state, after=after, plain=plain, value=value,
            gradient=gradient, metrics=metrics, plain_metrics=plain_metrics, batch=batch,
        )  # fmt: skip

    return of_key


def on_batches(family, batches):
    """(loss, gradient) of the family's first parameters on other minibatches."""

    def of(key, batch):
        keys = jax.random.split(key, 4)
        task = family.build(family.sample(keys[0]))
        params, state = task.init(keys[1])
        (value, _), gradient = task.value_and_gradient(params, state, keys[3], batch)
        return value, gradient

    return jax.jit(jax.vmap(of))(KEYS, batches)


def same(left, right, rtol, atol=1e-7):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), left, right)


def test_the_table_covers_the_registry():
    assert {text.partition(":")[0] for text in TABLE} == set(AUGMENTATIONS)


@pytest.mark.parametrize("text", TABLE)
def test_the_loss_at_initialisation_is_the_stated_one(base, gradients, text):
    """That of the family, by the same keys, on the same minibatch as the augmentation makes it."""
    family = augment(base, text)
    found = gradients(family)
    expected, _ = on_batches(base, found["batch"])
    factor = 3 if text.startswith("scale_loss") else 1
    np.testing.assert_allclose(found["value"], factor * expected, rtol=max(TABLE[text], 1e-6))
    np.testing.assert_allclose(found["value"], found["plain"], rtol=1e-6)
    assert family.metadata.initial_loss == pytest.approx(factor * base.metadata.initial_loss)
    same(found["metrics"], found["plain_metrics"], rtol=0)


@pytest.mark.parametrize("text", TABLE)
def test_names_dtypes_and_single_tasks(base, gradients, text):
    """The name makes it again; a task alone is as it is among others; dtypes are kept."""
    family = get_family(f"{BASE}+{text}")
    assert family.name == f"{BASE}+{text}"
    assert get_family(family.name).name == family.name
    assert family.metadata.data == base.metadata.data
    assert family.metadata.batch_size == (16 if text == "batch:16" else 64)
    assert parameter_count(family) == (100 if text == "subspace:100" else parameter_count(base))
    found = gradients(family)
    if text in DRAWN_OR_KEPT:
        one = jax.jit(first_step(family))(KEYS[1], family.load()["train"])
        among = jax.tree.map(lambda x: x[1], found)
        for name in ("params", "value", "gradient", "after"):
            same(one[name], among[name], rtol=1e-4, atol=1e-6)
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), found[n]) for n in ("params", "gradient")]
    assert kinds[0] == kinds[1]
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), found[n]) for n in ("state", "after")]
    assert kinds[0] == kinds[1]
    assert found["value"].dtype == jnp.float32


@pytest.mark.parametrize("level", ["global", "tensor", "parameter"])
def test_reparametrisation_is_p_is_s_times_x(base, gradients, level):
    found = gradients(augment(base, f"reparametrize_{level}:0.1:10"))
    plain = gradients(base)
    scale = found["cfg"]["scale"]
    if level == "global":
        assert scale.shape == (3,)
        scale = jax.tree.map(lambda _: scale, plain["params"])
    shapes = {x.shape[1:] for x in jax.tree.leaves(scale)}
    assert (shapes == {()}) == (level != "parameter")

    def times(tree, power):
        return jax.tree.map(lambda s, x: s.reshape(s.shape + (1,) * (x.ndim - s.ndim)) ** power * x,
                            scale, tree)  # fmt: skip

    same(found["params"], times(plain["params"], -1), rtol=1e-5)
    same(found["gradient"], times(plain["gradient"], 1), rtol=1e-3, atol=1e-5)
    values = np.concatenate([np.ravel(s) for s in jax.tree.leaves(scale)])
    assert (values >= 0.1).all()
    assert (values <= 10.001).all()
    assert len(np.unique(values)) >= 3 * (level != "global") or len(np.unique(values)) == 3
    if level == "parameter":  # log-uniform: of n draws the mean log is 0 ± 1.33/√n
        assert abs(np.log(values).mean()) < 5 * 1.33 / np.sqrt(len(values))
        assert np.log(values).std() == pytest.approx(np.log(100) / np.sqrt(12), rel=0.03)


def test_a_subspace_has_an_orthonormal_basis_and_the_gradient_in_it(base, gradients):
    found, plain = gradients(augment(base, "subspace:100")), gradients(base)
    assert (found["params"]["x"] == 0).all()
    for i in range(3):
        flat = ravel_pytree(jax.tree.map(lambda x, i=i: x[i], plain["gradient"]))[0]
        basis = np.zeros((len(flat), 100))
        column, entry = (np.asarray(found["cfg"]["basis"][n][i]) for n in ("column", "entry"))
        basis[np.arange(len(flat)), column] = entry
        np.testing.assert_allclose(basis.T @ basis, np.eye(100), atol=1e-5)
        np.testing.assert_allclose(found["gradient"]["x"][i], basis.T @ flat, atol=1e-5)
        counts = np.bincount(column, minlength=100)
        assert counts.max() - counts.min() <= 1
    assert (found["cfg"]["basis"]["entry"][0] != found["cfg"]["basis"]["entry"][1]).any()


def test_a_subspace_moves_parameters_along_its_basis():
    family = augment(get_family("quadratic8"), "subspace:3")
    cfg = family.sample(jax.random.key(1))
    task, inner = family.build(cfg), get_family("quadratic8").build(cfg["task"])
    _, state = task.init(jax.random.key(2))
    moved = jnp.asarray([1.0, -2.0, 0.5])
    batch = family.examples({}, 1)
    expected = cfg["task"]["start"] + cfg["basis"]["entry"] * moved[cfg["basis"]["column"]]
    loss, (after, _) = task.loss({"x": moved}, state, None, batch)
    np.testing.assert_allclose(loss, inner.loss({"x": expected}, {}, None, batch)[0], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_a_cast_loss_is_that_of_rounded_arrays_in_that_dtype(base, gradients, dtype, bits):
    """Its gradient is the plain one to a few roundings; the model itself runs in that dtype."""
    family = augment(base, f"cast:{dtype}")
    found, plain = gradients(family), gradients(base)
    error = optax.tree.norm(optax.tree.sub(found["gradient"], plain["gradient"]))
    error /= optax.tree.norm(plain["gradient"])
    assert 2.0**-bits / 10 < error < 20 * 2.0**-bits
    one = jax.tree.map(lambda x: x[0], {n: found[n] for n in ("cfg", "params", "state", "batch")})
    task = family.build(one["cfg"])
    program = jax.make_jaxpr(task.value_and_gradient)(
        one["params"], one["state"], KEYS[0], one["batch"]
    )
    products = [e for e in _equations(program.jaxpr) if e.primitive.name == "dot_general"]
    assert {str(v.aval.dtype) for e in products for v in e.outvars} == {dtype}
    assert len(products) >= 4


def test_a_cast_loss_keeps_the_models_state_and_casts_its_configuration():
    """bfloat16 has 8 bits: 1 + 2⁻¹⁰ is 1 in it, in the state it is not."""
    almost = 1 + 2.0**-10

    def loss(cfg, params, model_state, key, batch):
        value = (params["x"] * cfg["factor"] * batch).sum()
        return value, ({"kept": model_state["kept"] * 1, "seen": value}, {"value": value})

    family = scalar_family()._replace(
        sample=lambda key: {"factor": jnp.full(1, almost, jnp.float32)},
        build=lambda cfg: Task(
            lambda key: ({"x": jnp.ones(1)}, {"kept": jnp.asarray(almost), "seen": jnp.zeros(())}),
            partial(loss, cfg),
        ),
    )
    task = augment(family, "cast:bfloat16").build(family.sample(KEYS[0]))
    params, state = task.init(KEYS[0])
    for value in (
        task.loss(params, state, KEYS[0], jnp.ones(1)),
        task.value_and_gradient(params, state, KEYS[0], jnp.ones(1))[0],
    ):
        found, (after, metrics) = value
        assert float(found) == float(metrics["value"]) == 1.0
        assert float(after["kept"]) == almost
        assert {x.dtype for x in jax.tree.leaves((found, after, metrics))} == {jnp.dtype("float32")}
    gradient = task.value_and_gradient(params, state, KEYS[0], jnp.full(1, 0.5))[1]
    assert gradient["x"].dtype == jnp.float32
    assert float(gradient["x"][0]) == 0.5


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _equations(value.jaxpr)


def test_gradients_of_scaled_losses_and_gradients(base, gradients):
    plain = gradients(base)["gradient"]
    for text in ("scale_gradient:3", "scale_loss:3"):
        found = gradients(augment(base, text))["gradient"]
        same(found, jax.tree.map(lambda g: 3 * g, plain), rtol=1e-4, atol=1e-6)


def test_a_reduced_batch_is_the_first_of_the_familys(base, gradients):
    found, plain = gradients(augment(base, "batch:16")), gradients(base)
    same(found["batch"], jax.tree.map(lambda x: x[:, :16], plain["batch"]), rtol=0)
    _, expected = on_batches(base, found["batch"])
    same(found["gradient"], expected, rtol=1e-4, atol=1e-6)


def test_label_noise_is_in_the_training_split_alone_and_of_the_stated_share(base):
    splits, noisy = base.load(), augment(base, "label_noise:0.5").load()
    changed = (splits["train"]["label"] != noisy["train"]["label"]).mean()
    n = len(splits["train"]["label"])
    assert changed == pytest.approx(0.5 * 0.9, abs=5 * np.sqrt(0.25 / n))
    counts = np.bincount(noisy["train"]["label"], minlength=10) / n
    np.testing.assert_allclose(counts, 0.1, atol=0.03)
    assert noisy["train"]["label"].dtype == splits["train"]["label"].dtype
    for split in ("inner_validation", "outer_validation", "test"):
        np.testing.assert_array_equal(noisy[split]["label"], splits[split]["label"])
    np.testing.assert_array_equal(noisy["train"]["image"], splits["train"]["image"])
    again = augment(base, "label_noise:0.5").load()
    np.testing.assert_array_equal(again["train"]["label"], noisy["train"]["label"])
    none = augment(base, "label_noise:0").load()
    np.testing.assert_array_equal(none["train"]["label"], splits["train"]["label"])


def test_permuted_pixels_are_in_one_other_order_everywhere(base):
    splits, permuted = base.load(), augment(base, "permute_pixels:3").load()
    order = np.random.default_rng(3).permutation(64)
    for split, arrays in permuted.items():
        shape = arrays["image"].shape
        expected = splits[split]["image"].reshape(-1, 64)[:, order].reshape(shape)
        np.testing.assert_array_equal(arrays["image"], expected)
        np.testing.assert_array_equal(arrays["label"], splits[split]["label"])
    assert (order != np.arange(64)).any()
    other = augment(base, "permute_pixels:4").load()
    assert (other["test"]["image"] != permuted["test"]["image"]).any()


def unroll(family, steps, theta=0.25):
    """x before every step, and losses, of SGD on a task."""
    problem = optimizer_training(family, SGD)
    data = meta_data(family.load(), "train")
    state, seen, losses = problem.init(jax.random.key(0), jnp.asarray(theta)), [], []
    for i in range(steps):
        seen.append(float(state.params["x"]))
        state, loss = problem.step(jax.random.key(i), jnp.asarray(theta), state, data)
        losses.append(float(loss))
    return seen, losses, state


def delayed_descent(steps, delay, gradient_factor=1.0, rate=0.25):
    """x_{t+1} = x_t − α c x_{t−K}, and x_t = 1 in the first K steps: of the loss x²/2."""
    xs = [1.0]
    for t in range(steps - 1):
        xs.append(xs[-1] - rate * gradient_factor * (xs[t - delay] if t >= delay else 0))
    return xs


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_delayed_gradients_are_those_of_so_many_steps_ago(delay):
    xs, losses, state = unroll(augment(scalar_family(), f"delay:{delay}"), 9)
    expected = delayed_descent(9, delay)
    np.testing.assert_allclose(xs, expected, rtol=1e-6)
    np.testing.assert_allclose(losses, [0.5 * x**2 for x in expected], rtol=1e-6)
    assert int(state.model_state["task"]) == 9  # the model's own state is not delayed


@pytest.mark.parametrize(
    "texts",
    [
        ("delay:2", "reparametrize_tensor:0.3:3", "scale_gradient:2"),
        ("reparametrize_tensor:0.3:3", "scale_gradient:2", "delay:2"),
        ("scale_gradient:2", "delay:2", "reparametrize_tensor:0.3:3"),
    ],
)
def test_augmentations_compose_in_any_order(texts):
    """p = s x: a step of x by −α s ∇L is one of p by −α s² ∇L; the delay is that of ∇L."""
    family = scalar_family()
    for text in texts:
        family = augment(family, text)
    xs, losses, state = unroll(family, 9)
    cfg = state.configuration
    while "scale" not in cfg:
        cfg = cfg["task"]
    scale = float(cfg["scale"]["x"])
    expected = delayed_descent(9, 2, 2 * scale**2)
    np.testing.assert_allclose(np.asarray(xs) * scale, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses, [0.5 * x**2 for x in expected], rtol=1e-5, atol=1e-6)
    assert family.name == "+".join(("scalar", *texts))


@pytest.mark.parametrize("differentiate", ["reverse", "forward"])
def test_the_meta_gradient_sees_the_true_loss_behind_a_changed_gradient(differentiate):
    """x_1 = x_0 (1 − 3θ) and L = x²/2: dL_1/dθ = −3 x_0 x_1, not 3 times that."""
    family = augment(scalar_family(), "scale_gradient:3")
    problem = optimizer_training(family, SGD)
    data = meta_data(family.load(), "train")

    def last_loss(theta):
        state = problem.init(jax.random.key(0), theta)
        for i in range(2):
            state, loss = problem.step(jax.random.key(i), theta, state, data)
        return loss

    theta = jnp.asarray(0.1)
    if differentiate == "reverse":
        slope = jax.grad(last_loss)(theta)
    else:
        slope = jax.jvp(last_loss, (theta,), (jnp.ones(()),))[1]
    assert float(slope) == pytest.approx(-3 * 0.7, rel=1e-5)


def test_the_same_one_twice_draws_twice():
    family = augment(augment(scalar_family(), "reparametrize_tensor:0.1:10"),
                     "reparametrize_tensor:0.1:10")  # fmt: skip
    cfg = family.sample(jax.random.key(0))
    assert float(cfg["scale"]["x"]) != float(cfg["task"]["scale"]["x"])


@pytest.mark.slow
def test_all_of_them_together_are_meta_trained():
    """On two devices, by an estimator that keeps every particle's state; twice the same."""
    task = "+".join(("fashion_mnist_8x8_mlp32", *(t for t in TABLE if t != "cast:float16")))
    config = dataclasses.replace(TINY, task=task, devices=2)
    run = assemble(config)
    assert run.family.metadata.batch_size == 16
    assert run.family.metadata.initial_loss == pytest.approx(3 * np.log(10))
    state = run.training.init(run.key_init)
    before = jax.device_get(state.theta)
    state, metrics = run.training.advance(state, np.int32(4), run.key_updates, run.data)
    assert metrics["diverged"] == 0
    assert 0 < metrics["meta_loss"] < 3 * np.log(10) * config.loss_clip
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, jax.device_get(state.theta))
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quadratic8+nope", "unknown augmentation 'nope'"),
        ("quadratic8+", "unknown augmentation ''"),
        ("quadratic8+delay", "'delay' has 0 arguments; it must read delay:K"),
        ("quadratic8+delay:1:2", "has 2 arguments; it must read delay:K"),
        ("quadratic8+delay:0", "'delay:0': K='0' must be an integer from 1"),
        ("quadratic8+delay:x", "K='x' must be an integer from 1"),
        ("quadratic8+scale_loss:-1", "C='-1' must be a positive, finite number"),
        ("quadratic8+scale_loss:nan", "C='nan' must be a positive"),
        ("quadratic8+label_noise:1.5", "P='1.5' must be a number from 0 to 1"),
        ("quadratic8+permute_pixels:-1", "SEED='-1' must be an integer from 0"),
        ("quadratic8+cast:int8", "DTYPE='int8' must be one of bfloat16, float16"),
    ],
)
def test_wrong_arguments_list_the_legal_forms(name, message):
    with pytest.raises(AugmentationError, match=message) as error:
        get_family(name)
    for form in ("reparametrize_tensor:LOW:HIGH", "batch:N", "cast:DTYPE", "permute_pixels:SEED"):
        assert form in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quadratic8+reparametrize_global:10:0.1", "'reparam.*LOW=10.0 exceeds HIGH=0.1"),
        ("quadratic8+subspace:9", "'subspace:9': D=9 exceeds the 8 parameters of 'quadratic8'"),
        ("fashion_mnist_8x8_mlp32+batch:65", "'batch:65': N=65 exceeds the minibatch of .* 64"),
        ("fashion_mnist_8x8_mlp32+batch:16+batch:17", r"N=17 exceeds .*mlp32\+batch:16', 16"),
    ],
)
def test_what_a_family_cannot_be_is_refused(name, message):
    with pytest.raises(AugmentationError, match=message):
        get_family(name)


def test_what_needs_data_says_so_when_it_reads_them():
    for text, message in (("label_noise:0.1", "no label"), ("permute_pixels:0", "no image")):
        with pytest.raises(AugmentationError, match=f"'quadratic8' have {message}; leave out `"):
            get_family(f"quadratic8+{text}").load()
    family = get_family("quadratic8+batch:1")
    with pytest.raises(AugmentationError, match="no minibatches of 1 examples; leave out `batch`"):
        family.batch(jax.random.key(0), {})


def test_the_family_itself_is_named_first():
    with pytest.raises(UnknownTaskError, match="unknown task 'nope'"):
        get_family("nope+delay:1")


def test_the_optimizer_is_told_the_loss_that_it_trains():
    """``value`` of an update is the augmented loss, which gradients are consistent with."""
    seen = []

    def build(rate, num_steps=None):
        def update(gradient, state, params=None, *, value=None, **extra):
            seen.append(float(value))
            return jax.tree.map(lambda g: -rate * g, gradient), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    rule = LearnedOptimizer("watching", {}, lambda key: jnp.asarray(0.1), build)
    family = augment(scalar_family(), "scale_loss:4")
    problem = optimizer_training(family, rule)
    state = problem.init(jax.random.key(0), jnp.asarray(0.1))
    problem.step(jax.random.key(0), jnp.asarray(0.1), state, meta_data(family.load(), "train"))
    assert seen == [2.0]
