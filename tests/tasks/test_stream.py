"""Pools of a streamed set: every row once an epoch, a function of the seed and the refresh."""

import shutil

import jax
import numpy as np
import pytest

from tasks import (
    DataUnavailableError,
    StreamError,
    check_streamed,
    get_family,
    get_streamed_family,
)
from tasks.data.stream import _shuffled
from tests.tasks.prepared_sets import prepare

TASK, TRAINED = "shapes_4x4_mlp8", 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(autouse=True)
def data_dir(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "cache"))


def rows(arrays):
    """Images and labels as bytes."""
    pairs = zip(arrays["image"], arrays["label"], strict=True)
    return [image.tobytes() + label.tobytes() for image, label in pairs]


def pools(count, of=24, seed=0, name=TASK):
    family = get_streamed_family(name, rows=of, seed=seed)
    return [row for r in range(count) for row in rows(family.pool(r))]


def test_a_pool_as_large_as_the_set_has_every_row_once_an_epoch():
    whole = rows(get_family(TASK).load()["train"])
    assert len(set(whole)) == TRAINED
    family = get_streamed_family(TASK, rows=TRAINED, seed=0)
    epochs = [rows(family.pool(r)) for r in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(whole)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_smaller_pools_are_the_pieces_of_the_same_order():
    """24 does not divide 40: pools go on over the end of an epoch, and nothing is left out."""
    one_order = pools(3, of=TRAINED)
    assert pools(5, of=24) == one_order[: 5 * 24]
    assert pools(4, of=1) == one_order[:4]
    family = get_streamed_family(TASK, rows=24, seed=0)
    assert rows(family.pool(3)) == one_order[72:96]  # in any order, by any process
    assert pools(2, seed=1) != one_order[:48]


def test_the_order_is_of_bits_that_are_promised_to_stay():
    assert _shuffled(0, 0, 8).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert sorted(_shuffled(7, 3, 1000)) == list(range(1000))


def test_what_is_held_out_and_the_moments_are_those_of_the_set_in_memory():
    whole, family = get_family(TASK), get_streamed_family(TASK, rows=10, seed=0)
    assert (family.name, family.metadata) == (TASK, whole.metadata)
    ours, theirs = family.load(), whole.load()
    for split in ("inner_validation", "outer_validation", "test"):
        assert rows(ours[split]) == rows(theirs[split])
    assert rows(ours["train"]) == rows(family.pool(0))
    for name in ("mean", "std"):
        for arrays in (*ours.values(), family.pool(3)):
            np.testing.assert_array_equal(arrays[name], theirs["train"][name])
    shapes = {tuple(jax.tree.leaves(jax.tree.map(np.shape, family.pool(r)))) for r in range(4)}
    assert len(shapes) == 1


def test_augmentations_of_minibatches_go_with_it_and_those_of_the_data_do_not():
    family = get_streamed_family(f"{TASK}+flip+batch:8", rows=10, seed=0)
    assert family.training_batch(jax.random.key(0), family.pool(1))["image"].shape == (8, 4, 4, 3)
    for text in ("label_noise:0.1", "permute_pixels:1"):
        with pytest.raises(StreamError, match=f"'{text}' of .* never read whole; leave it out"):
            get_streamed_family(f"{TASK}+flip+{text}", rows=10, seed=0)


def test_what_cannot_be_streamed_is_refused(monkeypatch, tmp_path):
    for name in ("quadratic8", "quadratic8+scale_loss:2", "nope"):
        with pytest.raises(StreamError, match=r"no TFDS image set .* DATASET_RxR_MODEL have"):
            check_streamed(name)
    for count in (0, TRAINED + 1):
        with pytest.raises(StreamError, match=f"a pool of {count} images: there are 40 to train"):
            get_streamed_family(TASK, rows=count, seed=0)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataUnavailableError, match="'shapes' is not prepared under"):
        get_streamed_family(TASK, rows=10, seed=0)


def test_a_set_that_breaks_on_the_way_is_named(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared / "shapes", tmp_path / "shapes")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    family = get_streamed_family(TASK, rows=10, seed=0)
    (record,) = (tmp_path / "shapes/1.2.0").glob("*train*array_record*")
    record.write_bytes(bytes(record.stat().st_size))
    with pytest.raises(DataUnavailableError, match=r"'shapes' in .* cannot be read .*prepare it"):
        family.pool(1)


def test_hidden_labels_of_the_test_split_are_not_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepare(tmp_path, labels="hidden")))
    ours = get_streamed_family(TASK, rows=10, seed=0).load()["test"]
    assert rows(ours) == rows(get_family(TASK).load()["test"])
