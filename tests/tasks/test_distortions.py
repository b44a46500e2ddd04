"""Distortions of training images: each against a NumPy twin, and only where they belong."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, kstest

from meta_train.problems.optimizer_training import meta_data, optimizer_training
from tasks import AugmentationError, get_family
from tasks.augmentations import augment
from tasks.augmentations.mixup import symmetric_beta
from tasks.images.objectives import classification, reconstruction, squared_error
from tests.end_to_end.commands import run
from tests.meta_train.stubs import SGD

SIDE, BATCH, DRAWS = 5, 64, 40
BASE = "fashion_mnist_8x8_mlp16"
TEXTS = ("flip", "crop:2", "noise:0.5", "mixup:0.4")


def numbered_family():
    """Images [5, 5, 1] whose pixel (i, j) of row n is 25 n + 5 i + j; the label is n."""
    count = 7
    image = np.arange(count * SIDE**2, dtype=np.float32).reshape(count, SIDE, SIDE, 1)
    arrays = {"image": image, "label": np.arange(count, dtype=np.int32)}

    def batch(key, arrays):
        rows = jax.random.randint(key, (BATCH,), 0, count)
        return jax.tree.map(lambda x: jnp.asarray(x)[rows], arrays)

    family = get_family(BASE)
    return family._replace(name="numbered", batch=batch), arrays


def drawn(text):
    """(before, after) of `DRAWS` training minibatches, by one program."""
    family, arrays = numbered_family()
    changed = augment(family, text)
    keys = jax.random.split(jax.random.key(1), DRAWS)
    both = jax.jit(jax.vmap(lambda k: (family.batch(k, arrays), changed.training_batch(k, arrays))))
    return jax.device_get(both(keys))


def test_every_second_image_is_mirrored():
    before, after = drawn("flip")
    images, found = (part["image"].reshape(-1, SIDE, SIDE) for part in (before, after))
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2))
    kept = (found == images).all(axis=(1, 2))
    assert (mirrored ^ kept).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / math.sqrt(len(images))
    per_batch = mirrored.reshape(DRAWS, BATCH).mean(axis=1)
    assert 0.2 < per_batch.min() < per_batch.max() < 0.8  # not all of a minibatch alike
    np.testing.assert_array_equal(after["label"], before["label"])


@pytest.mark.parametrize("pixels", [1, 3])
def test_crops_are_those_of_the_reflected_image_each_as_often(pixels):
    before, after = drawn(f"crop:{pixels}")
    images, found = (part["image"].reshape(-1, SIDE, SIDE) for part in (before, after))
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    match = (windows == found[:, None, None]).all(axis=(3, 4))
    places = 2 * pixels + 1
    assert match.shape[1:] == (places, places)
    assert (match.sum(axis=(1, 2)) == 1).all()
    often = match.mean(axis=0)
    expected = 1 / places**2
    np.testing.assert_allclose(often, expected, atol=5 * math.sqrt(expected / len(images)))
    np.testing.assert_array_equal(after["label"], before["label"])


def test_noise_is_gaussian_of_the_stated_deviation_and_independent():
    before, after = drawn("noise:0.5")
    noise = (after["image"] - before["image"]).ravel() / 0.5
    n = noise.size
    assert abs(noise.mean()) < 5 / math.sqrt(n)
    assert abs(np.square(noise).mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 / math.sqrt(n)
    images = noise.reshape(-1, SIDE**2)
    assert abs((images[1:] * images[:-1]).mean()) < 5 / math.sqrt(n)


def test_mixtures_are_of_opposites_with_one_beta_share_a_minibatch():
    before, after = drawn("mixup:0.4")
    share, mixed = after["mixed"]["share"], after["mixed"]["label"]
    assert (share == share[:, :1]).all()
    image, label = before["image"], before["label"]
    s = share[:, :, None, None, None]
    np.testing.assert_allclose(
        after["image"], (1 - s) * image + s * image[:, ::-1], rtol=1e-5, atol=1e-3
    )
    np.testing.assert_array_equal(after["label"], label)
    np.testing.assert_array_equal(mixed, label[:, ::-1])
    assert (mixed != label).mean() > 0.7


@pytest.mark.parametrize("alpha", [0.05, 0.4, 2.0, 50.0])
def test_shares_are_of_the_beta_distribution(alpha):
    keys = jax.random.split(jax.random.key(2), 20_000)
    shares = jax.jit(jax.vmap(lambda key: symmetric_beta(key, alpha)))(keys)
    lower = shares[shares < 0.5]  # those near 1 are rounded to it
    assert abs(len(lower) - 10_000) < 5 * math.sqrt(5_000)
    assert kstest(lower, lambda s: 2 * beta(alpha, alpha).cdf(s)).pvalue > 1e-3


def test_losses_of_mixed_labels_are_those_of_mixed_targets():
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 4)).astype(np.float32)
    label, other = random.integers(4, size=(2, 6)).astype(np.int32)
    share = random.random(6).astype(np.float32)
    batch = {"label": label, "mixed": {"label": other, "share": share}}
    target = (1 - share)[:, None] * np.eye(4)[label] + share[:, None] * np.eye(4)[other]
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, metrics = classification(jnp.asarray(logits), jax.tree.map(jnp.asarray, batch))
    assert float(loss) == pytest.approx(-(target * log_probability).sum(axis=1).mean(), rel=1e-5)
    best = logits.argmax(axis=1)
    accuracy = ((1 - share) * (best == label) + share * (best == other)).mean()
    assert float(metrics["accuracy"]) == pytest.approx(accuracy, rel=1e-5)
    loss, metrics = squared_error(jnp.asarray(logits), jax.tree.map(jnp.asarray, batch))
    assert float(loss) == pytest.approx(((logits - target) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(accuracy, rel=1e-5)


def test_autoencoders_reconstruct_the_distorted_image():
    image = jnp.arange(8.0).reshape(2, 2, 2, 1)
    loss, _ = reconstruction(image.reshape(2, 4) + 1, {"image": image})
    assert float(loss) == pytest.approx(1)
    family = get_family("fashion_mnist_8x8_autoencoder8+mixup:1+crop:1")

    @jax.jit
    def losses(key, arrays):
        task = family.build({})
        params, state = task.init(key)
        batch = family.training_batch(key, arrays)
        alone = {"image": batch["image"]}
        return [task.loss(params, state, key, seen)[0] for seen in (batch, alone)]

    with_labels, without = losses(jax.random.key(0), family.load()["train"])
    assert float(with_labels) == float(without)


@pytest.mark.parametrize("text", TEXTS)
def test_only_minibatches_of_training_are_distorted(text):
    """The function at initialisation, its loss on ``examples`` and on validation: bit for bit."""
    family, changed = get_family(BASE), get_family(f"{BASE}+{text}")
    assert changed.metadata == family.metadata
    splits, key = family.load(), jax.random.key(3)
    jax.tree.map(np.testing.assert_array_equal, changed.load(), splits)

    @jax.jit
    def seen(key):
        found = []
        for one in (family, changed):
            task = one.build(one.sample(key))
            params, state = task.init(key)
            scored, held = one.examples(splits["test"], 50), one.batch(key, splits["test"])
            found.append((params, scored, held, task.loss(params, state, key, scored)[0]))
        return (
            found,
            changed.training_batch(key, splits["train"]),
            family.batch(key, splits["train"]),
        )

    (plain, augmented), trained, undistorted = seen(key)
    jax.tree.map(np.testing.assert_array_equal, plain, augmented)
    assert (trained["image"] != undistorted["image"]).any()
    assert trained["image"].dtype == jnp.float32


def test_training_sees_distorted_minibatches_and_validation_does_not():
    """The first losses of both, computed by hand from the family's own parts."""
    family = get_family(f"{BASE}+noise:2")
    splits, task = family.load(), family.build({})

    @jax.jit
    def both(key):
        found = []
        for meta_loss, split, batch in (
            ("train", "train", family.training_batch),
            ("validation", "inner_validation", family.batch),
        ):
            problem = optimizer_training(family, SGD, meta_loss=meta_loss)
            state = problem.init(key, jnp.asarray(0.1))
            loss = problem.step(key, jnp.asarray(0.1), state, meta_data(splits, meta_loss))[1]
            key_batch, key_loss, key_measure = jax.random.split(key, 3)
            if meta_loss == "validation":
                key_batch, key_loss = jax.random.split(key_measure)
            seen = batch(key_batch, splits[split])
            expected = task.loss(state.params, state.model_state, key_loss, seen)[0]
            found.append((loss, expected))
        return found

    for loss, expected in both(jax.random.key(5)):
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_distortions_follow_each_other_and_a_smaller_minibatch():
    family = get_family(f"{BASE}+mixup:0.2+batch:16+flip+crop:1+flip+cast:bfloat16+label_noise:0.1")
    splits, key = family.load(), jax.random.key(0)
    batch = family.training_batch(key, splits["train"])
    assert batch["image"].shape == (16, 8, 8, 1)
    assert batch["mixed"]["share"].shape == batch["mixed"]["label"].shape == (16,)

    @jax.jit
    def first_gradient(key, batch):
        task = family.build({})
        params, state = task.init(key)
        return task.value_and_gradient(params, state, key, batch)

    value, gradient = first_gradient(key, batch)
    assert np.isfinite(value[0])
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    once, twice = (get_family(f"{BASE}{text}") for text in ("+flip", "+flip+flip"))
    images = [f.training_batch(key, splits["train"])["image"] for f in (once, twice)]
    assert (images[0] != images[1]).any()  # drawn by keys of their own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{BASE}+crop:0", "'crop:0': P='0' must be an integer from 1"),
        (f"{BASE}+crop:1.5", "P='1.5' must be an integer"),
        (f"{BASE}+noise:0", "STD='0' must be a positive, finite number"),
        (f"{BASE}+noise:inf", "STD='inf' must be a positive"),
        (f"{BASE}+mixup:-1", "ALPHA='-1' must be a positive"),
        (f"{BASE}+mixup", "'mixup' has 0 arguments; it must read mixup:ALPHA"),
        (f"{BASE}+flip:1", "'flip:1' has 1 arguments; it must read flip"),
    ],
)
def test_odd_arguments_are_refused(name, message):
    with pytest.raises(AugmentationError, match=message):
        get_family(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop:8", r"P=8 does not leave .*mlp16', 8×8; it must be below 8"),
        ("mixup:1+mixup:1", r"mlp16\+mixup:1' are mixed already; leave out this `mixup`"),
    ],
)
def test_what_images_cannot_be_is_said_when_they_are_drawn(text, message):
    family = get_family(f"{BASE}+{text}")
    with pytest.raises(AugmentationError, match=message):
        jax.eval_shape(family.training_batch, jax.random.key(0), family.load()["train"])


def test_a_minibatch_without_an_image_or_a_label_is_refused():
    for text in TEXTS:
        family = get_family(f"quadratic8+{text}")
        with pytest.raises(AugmentationError, match="'quadratic8' have no image; leave out"):
            jax.eval_shape(family.training_batch, jax.random.key(0), family.load()["train"])
    family, arrays = numbered_family()
    family = family._replace(batch=lambda key, arrays: {"image": jnp.asarray(arrays["image"])})
    with pytest.raises(AugmentationError, match="'numbered' have no label"):
        augment(family, "mixup:1").training_batch(jax.random.key(0), arrays)


@pytest.mark.slow
def test_drawing_costs_little_of_an_inner_step():
    """Under 5 %, in one of a few processes: see the script."""
    for _ in range(3):
        code, output, error = run("tests.tasks.drawing_cost", XLA_FLAGS="")
        assert code == 0, error
        shares = json.loads(output)
        if shares[""] < 0.05:
            return
    raise AssertionError(shares)
