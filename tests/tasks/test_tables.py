"""Tables, time series and signals: the published sets, splits apart, shapes that can be told."""

import jax
import numpy as np
import pytest

from tasks import SPLITS, get_family
from tasks.data.embedded import load_series, load_table
from tasks.domains.tabular import TABLES
from tasks.domains.time_series import TRANSFORMS, WINDOW, split_series
from tasks.signals.digits import draw_digits
from tasks.signals.glyphs import GLYPHS, draw_glyphs
from tasks.tabular.splits import SHARES, distinct_rows, split_table

CLASSES = {
    "iris": [50, 50, 50],
    "wine": [59, 71, 48],
    "breast_cancer": [212, 357],
    "digits": [178, 182, 177, 183, 181, 182, 181, 179, 174, 180],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_published_one(name):
    inputs, targets = load_table(name)
    assert inputs.shape[1] == TABLES[name].columns
    if name in CLASSES:
        assert np.bincount(targets).tolist() == CLASSES[name]
    else:
        assert len(targets) == 442
        assert (targets.min(), targets.max()) == (25, 346)
    assert len(inputs) == len(targets)
    if name == "iris":
        np.testing.assert_allclose(inputs.mean(axis=0), [5.843, 3.057, 3.758, 1.199], atol=1e-3)


@pytest.mark.parametrize("name", TABLES)
def test_splits_of_a_table_are_its_rows_once_and_standardised(name):
    splits = split_table(name)
    assert tuple(SHARES) == SPLITS
    inputs = distinct_rows(*load_table(name))[0]
    assert sum(len(arrays["target"]) for arrays in splits.values()) == len(inputs)
    train = splits["train"]["input"]
    moves = train.std(axis=0) > 0
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(axis=0)[moves], 1, rtol=1e-4)
    whole = np.concatenate([splits[split]["input"] for split in SPLITS])
    for column in np.flatnonzero(moves)[:3]:
        ranks = np.argsort(whole[:, column], kind="stable")
        values = inputs[_order(inputs)][:, column]
        assert (np.diff(values[ranks]) >= 0).all()


def _order(inputs):
    return np.random.default_rng(0).permutation(len(inputs))


def test_the_least_squares_of_diabetes_is_what_training_nears():
    """300 steps of the linear task end within 10 % of the closed form on the train split."""
    import optax

    family = get_family("diabetes_linear")
    arrays = family.load()["train"]
    design = np.c_[arrays["input"], np.ones(len(arrays["target"]))]
    solution = np.linalg.lstsq(design, arrays["target"], rcond=None)[0]
    best = np.mean((design @ solution - arrays["target"]) ** 2)
    task = family.build({})
    params, state = task.init(jax.random.key(0))
    tx = optax.adam(3e-2)

    @jax.jit
    def train(params):
        def step(carry, key):
            params, opt = carry
            gradient = jax.grad(lambda p: task.loss(p, state, key, family.batch(key, arrays))[0])(
                params
            )
            updates, opt = tx.update(gradient, opt)
            return (optax.apply_updates(params, updates), opt), None

        keys = jax.random.split(jax.random.key(1), 300)
        return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]

    whole = {name: arrays[name] for name in ("input", "target")}
    found = float(task.loss(train(params), state, None, whole)[0])
    assert best <= found < 1.1 * best


SERIES = {"sunspots": (309, 0), "nile": (100, 1120), "elnino": (732, None), "co2": (2225, None)}


@pytest.mark.parametrize("name", SERIES)
def test_a_series_is_the_published_one(name):
    values = load_series(name)
    length, first = SERIES[name]
    assert len(values) == length
    if name == "nile":
        assert values[0] == first
        assert values.mean() == pytest.approx(919.35)
    if name == "sunspots":
        assert values[:3].tolist() == [5, 11, 16]  # 1700 to 1702
        assert values.max() == pytest.approx(190.2)  # 1957


@pytest.mark.parametrize("name", ["sunspots", "co2", "elnino"])
def test_windows_lie_within_their_block_of_time(name):
    splits = split_series(name)
    values = TRANSFORMS.get(name, np.asarray)(load_series(name))
    blocks = [splits[split]["values"] for split in SPLITS]
    joined = np.concatenate(blocks)
    assert len(joined) == len(values)
    train = values[: len(blocks[0])].astype(float)
    np.testing.assert_allclose(joined, (values - train.mean()) / train.std(), rtol=1e-4, atol=1e-4)
    family = get_family(f"{name}_autoregression")
    for split in SPLITS:
        block = splits[split]["values"]
        scored = family.examples(splits[split], 10_000)
        assert len(scored["target"]) == len(block) - WINDOW
        for i in (0, len(block) - WINDOW - 1):
            np.testing.assert_array_equal(scored["input"][i], block[i : i + WINDOW])
            assert scored["target"][i] == block[i + WINDOW]


def test_glyphs_are_told_apart_where_there_is_no_noise():
    """Each signal is nearest, over stretches, places and shears, to the glyph that it shows."""
    batch = jax.jit(lambda key: draw_glyphs(key, 40, 0.0))(jax.random.key(0))
    signals, labels = np.asarray(batch["input"]), np.asarray(batch["label"])
    found = []
    for signal in signals:
        inside = np.flatnonzero(signal)
        cut = signal[inside[0] : inside[-1] + 1]
        at = np.linspace(0, 1, len(cut))
        errors = []
        for glyph in GLYPHS:
            shape = np.interp(at, np.linspace(0, 1, len(glyph)), glyph)
            design = np.c_[shape, at - 0.5]
            size, residual = np.linalg.lstsq(design, cut, rcond=None)[:2]
            wrong = size[0] <= 0.2
            errors.append(np.inf if wrong else float(residual[0]) if len(residual) else 0.0)
        found.append(int(np.argmin(errors)))
    assert np.mean(np.array(found) == labels) >= 0.95
    assert len(set(labels.tolist())) == 10


def test_digits_follow_their_tracks():
    """Without noise the mean map of a class is nearest to that of its own in another draw."""
    draw = jax.jit(lambda key: draw_digits(key, 3000, 0.0))
    means = []
    for seed in (0, 1):
        batch = draw(jax.random.key(seed))
        inputs, labels = np.asarray(batch["input"]), np.asarray(batch["label"])
        means.append(np.stack([inputs[labels == i].mean(axis=0).ravel() for i in range(10)]))
    distances = ((means[0][:, None] - means[1][None]) ** 2).sum(axis=-1)
    assert distances.argmin(axis=1).tolist() == list(range(10))
    apart = distances[~np.eye(10, dtype=bool)].min()
    assert apart > 10 * np.diag(distances).max()
