"""The embedded data, the splits, and any prepared TFDS set, read without TensorFlow."""

import hashlib
import json
import os
import re
import shutil
import sys
import time

import numpy as np
import pytest

import tasks.data.prepared_images as prepared_images
import tasks.data.tfds_images as tfds_images
from tasks import DataUnavailableError, get_family
from tasks.data.cache import (
    IMAGE_FORMAT,
    cache_dir,
    load_or_make,
    read_image_set,
    write_image_set,
)
from tasks.data.embedded import load_fashion_mnist_8x8
from tasks.data.resize import area_average
from tasks.data.splits import ImageSet, split_images
from tests.conftest import SHARED
from tests.tasks.prepared_sets import prepare

EMBEDDED_SHA256 = "890f40d6d710d2239c571c48fdfe498a9881245ebcc89ad21dce9e8fdc2e32b7"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def data_dir(prepared, tmp_path, monkeypatch):
    """A copy of the prepared set that a test may damage, and a cache of its own."""
    shutil.copytree(prepared / "shapes", tmp_path / "tfds/shapes")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tfds"


def test_area_average_is_the_mean_of_the_area():
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 6, 2), np.uint8)
    means = images.reshape(5, 3, 4, 3, 2, 2).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(area_average(images, 3), means, atol=0.5 + 1e-4)


def test_area_average_shares_pixels_on_the_boundary():
    row = np.asarray([10, 20, 30, 40, 50, 60, 70], np.uint8)  # 7 → 2: 3.5 pixels each
    image = np.broadcast_to(row[None, None, :, None], (1, 7, 7, 1))
    left, right = (10 + 20 + 30 + 40 / 2) / 3.5, (40 / 2 + 50 + 60 + 70) / 3.5
    expected = np.rint([left, right])
    np.testing.assert_array_equal(area_average(image, 2)[0, 0, :, 0], expected)
    np.testing.assert_array_equal(area_average(image, 7), image)


def test_the_embedded_set_is_all_of_fashion_mnist():
    images = load_fashion_mnist_8x8()
    assert images.train[0].shape == (60_000, 8, 8, 1)
    assert images.test[0].shape == (10_000, 8, 8, 1)
    assert images.train[0].dtype == np.uint8
    assert (np.bincount(images.train[1]) == 6_000).all()
    assert (np.bincount(images.test[1]) == 1_000).all()
    assert images.train[0].mean() == pytest.approx(72.94, abs=0.05)  # as at 28×28
    digest = hashlib.sha256(images.train[0].tobytes() + images.test[0].tobytes()).hexdigest()
    assert digest == EMBEDDED_SHA256


@pytest.mark.skipif(not (SHARED / "tfds/fashion_mnist").is_dir(), reason="not prepared here")
@pytest.mark.parametrize("side", [14, pytest.param(16, marks=pytest.mark.slow), 28])
def test_fashion_mnist_as_tfds_has_it_at_larger_sides(monkeypatch, tmp_path, side):
    """A few thousand images; at 28 pixels every value as decoded, at 14 means of two by two."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(SHARED / "tfds"))
    directory = tfds_images.find_prepared("fashion_mnist")
    prepared = prepared_images.open_images("fashion_mnist", directory)
    assert (prepared.counts, prepared.classes) == ({"test": 10_000, "train": 60_000}, 10)
    rows = [*range(1_500), 59_999, 7]
    images, labels = prepared.read("train", rows, side)
    assert images.shape == (1_502, side, side, 1)
    embedded, known = load_fashion_mnist_8x8().train
    np.testing.assert_array_equal(labels, known[rows])
    np.testing.assert_allclose(
        images.mean(axis=(1, 2, 3)), embedded[rows].mean(axis=(1, 2, 3)), atol=1
    )
    original = prepared.sources["train"].__getitems__(rows[-40:])
    for record, image, label in zip(original, images[-40:], labels[-40:], strict=True):
        assert record["label"] == label
        if 28 % side == 0:
            blocks = record["image"].reshape(side, 28 // side, side, 28 // side, 1)
            means = blocks.mean(axis=(1, 3))
            np.testing.assert_allclose(image, means, atol=0.5 + 1e-4)


@pytest.mark.slow
def test_the_embedded_set_is_what_its_script_makes(monkeypatch, tmp_path):
    """From the original images where they are at hand; else from the script's own parts."""
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    embedded = load_fashion_mnist_8x8()
    if (SHARED / "tfds/fashion_mnist").is_dir():
        monkeypatch.setenv("TFDS_DATA_DIR", str(SHARED / "tfds"))
        made = tfds_images.load_tfds_images("fashion_mnist", 8)
    else:
        write_image_set(tmp_path / "copy.npz", embedded)
        made = read_image_set(tmp_path / "copy.npz")
    for ours, theirs in ((embedded.train, made.train), (embedded.test, made.test)):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def numbered(train, test):
    """Images whose pixel is their number."""

    def part(first, count):
        numbers = np.arange(first, first + count)
        return (numbers % 256).astype(np.uint8).reshape(-1, 1, 1, 1), numbers.astype(np.int32)

    return ImageSet("numbered", 10, part(0, train), part(train, test) if test else None)


@pytest.mark.parametrize("test", [0, 40])
def test_splits_are_disjoint_cover_everything_and_never_change(test):
    images = numbered(200, test)
    splits, again = split_images(images), split_images(images)
    labels = {name: split["label"] for name, split in splits.items()}
    for name in splits:
        np.testing.assert_array_equal(splits[name]["label"], again[name]["label"])
        np.testing.assert_array_equal(splits[name]["image"][:, 0, 0, 0], labels[name] % 256)
    assert sorted(np.concatenate(list(labels.values()))) == list(range(200 + test))
    trained = 200 if test else 180
    assert len(labels["inner_validation"]) == len(labels["outer_validation"]) == trained // 10
    assert len(labels["test"]) == (test or 20)
    seen = splits["train"]["image"].astype(float)
    assert splits["train"]["mean"].item() == pytest.approx(seen.mean(), rel=1e-5)
    assert splits["test"]["std"].item() == pytest.approx(seen.std(), rel=1e-5)


def test_a_prepared_set_is_read_whole_and_cached(data_dir, monkeypatch):
    family = get_family("shapes_8x8_mlp16")
    splits = family.load()
    assert {k: len(v["label"]) for k, v in splits.items()} == {
        "train": 40,
        "inner_validation": 5,
        "outer_validation": 5,
        "test": 20,
    }
    assert splits["train"]["image"].shape == (40, 8, 8, 3)
    assert family.metadata.initial_loss == pytest.approx(np.log(5))
    pixels, labels = tfds_images.load_tfds_images("shapes", 8).test
    original = {
        i % 5: np.random.default_rng(i).integers(0, 256, (12 + i % 2, 10, 3), np.uint8)
        for i in range(50, 70)
    }
    assert sorted(labels) == sorted(i % 5 for i in range(50, 70))
    made = {area_average(image[None], 8).tobytes() for image in original.values()}
    assert made <= {image[None].tobytes() for image in pixels}
    (cached,) = (cache_dir() / "data").iterdir()
    assert re.fullmatch(r"shapes-1\.2\.0-8-[0-9a-f]{12}\.npz", cached.name)

    monkeypatch.setattr(tfds_images, "_converted", None)  # from here on the cache has to do
    np.testing.assert_array_equal(tfds_images.load_tfds_images("shapes:1.2.0", 8).test[0], pixels)
    cached.write_bytes(cached.read_bytes()[:100])
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        tfds_images.load_tfds_images("shapes", 8)


def test_cached_arrays_serve_where_neither_files_nor_tfds_are(data_dir, monkeypatch):
    whole = tfds_images.load_tfds_images("shapes", 8)
    shutil.rmtree(data_dir)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it fails
    for name, download in (("shapes", False), ("shapes:1.2.0", True)):
        images = tfds_images.load_tfds_images(name, 8, download=download)
        np.testing.assert_array_equal(images.test[0], whole.test[0])
    for name, resolution in (("shapes", 4), ("shapes:1.1.0", 8), ("shape", 8)):
        with pytest.raises(DataUnavailableError, match="is not prepared"):
            tfds_images.load_tfds_images(name, resolution)


def test_without_tfds_a_set_that_needs_it_says_so(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        DataUnavailableError, match=r"'shapes' needs TensorFlow Datasets .*pip inst"
    ):
        tfds_images.load_tfds_images("shapes", 8)
    with pytest.raises(DataUnavailableError, match="'other' needs TensorFlow Datasets"):
        tfds_images.load_tfds_images("other", 8, download=True)


def test_the_cache_is_of_this_folder_and_of_what_is_in_it_now(data_dir, monkeypatch):
    made = []

    def convert(prepared, resolution, parts, report):
        made.append(prepared.directory)
        return numbered(20, 5)

    monkeypatch.setattr(tfds_images, "_converted", convert)
    for _ in range(2):
        tfds_images.load_tfds_images("shapes", 8)
    assert len(made) == 1
    other = shutil.copytree(data_dir, data_dir.parent / "other")
    monkeypatch.setenv("TFDS_DATA_DIR", str(other))
    tfds_images.load_tfds_images("shapes", 8)
    assert len(made) == 2
    os.utime(next(other.glob("shapes/1.2.0/*train*array_record*")), (0, 0))
    tfds_images.load_tfds_images("shapes", 8)
    assert len(made) == 3


def test_a_test_split_whose_labels_are_hidden_gives_way_to_the_validation_split(
    tmp_path, monkeypatch
):
    prepare(tmp_path, labels="hidden")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "cache"))
    images, labels = tfds_images.load_tfds_images("shapes", 8).test
    assert sorted(labels) == sorted(i % 5 for i in range(70, 80))
    assert len(images) == 10


@pytest.mark.parametrize("error", [MemoryError("16 GB"), PermissionError(13, "denied")])
def test_nobody_is_told_to_remove_a_set_that_is_not_to_blame(data_dir, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(prepared_images, "area_average", fail)
    with pytest.raises(DataUnavailableError, match=type(error).__name__) as refused:
        get_family("shapes_8x8_mlp16")
    assert "remove the folder" not in str(refused.value)


def test_a_set_that_is_not_prepared_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataUnavailableError, match=r"'cifar10' is not prepared under .*download"):
        get_family("cifar10_8x8_mlp32")
    with pytest.raises(DataUnavailableError, match="not prepared"):
        tfds_images.load_tfds_images("shapes:9.9.9", 8)


def test_an_offline_download_gives_up_quickly(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(DataUnavailableError, match="'mnist' could not be downloaded and prepared"):
        get_family("mnist_8x8_mlp32", download=True)
    assert time.perf_counter() - started < 60


def damage_records(directory):
    record = next(directory.glob("shapes/1.2.0/*train*array_record*"))
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])


def drop_a_row(directory):
    path = directory / "shapes/1.2.0/dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = ["51"]
    path.write_text(json.dumps(info))


def empty_info(directory):
    (directory / "shapes/1.2.0/dataset_info.json").write_text("{")


def lose_the_features(directory):
    (directory / "shapes/1.2.0/features.json").unlink()


def lose_the_info(directory):
    (directory / "shapes/1.2.0/dataset_info.json").unlink()


def other_json(directory):
    (directory / "shapes/1.2.0/dataset_info.json").write_text('{"name": ["shapes"]}')


@pytest.mark.parametrize(
    "damage",
    [damage_records, drop_a_row, empty_info, other_json, lose_the_features, lose_the_info],
)
def test_a_damaged_set_is_refused_clearly(data_dir, damage):
    damage(data_dir)
    with pytest.raises(
        DataUnavailableError, match=r"'shapes' in .* cannot be read.* prepare it again"
    ):
        get_family("shapes_8x8_mlp16")


def test_parquet_is_never_read(data_dir):
    path = data_dir / "shapes/1.2.0/dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "parquet"))
    with pytest.raises(DataUnavailableError, match="format 'parquet'"):
        get_family("shapes_8x8_mlp16")


def test_a_pickle_in_the_cache_executes_nothing(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    (tmp_path / "data").mkdir()
    fields = ("name", "classes", "train_image", "train_label")
    bombs = {name: np.asarray(Bomb(), dtype=object) for name in fields}
    np.savez(tmp_path / "data/key.npz", **bombs)
    assert load_or_make("key", lambda: numbered(20, 5), IMAGE_FORMAT).name == "numbered"
    assert not (tmp_path / "executed").exists()


def test_a_damaged_cache_is_made_anew_and_a_full_disk_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    images = numbered(20, 5)
    made = []

    def make():
        made.append(1)
        return images

    for _ in range(2):
        load_or_make("key", make, IMAGE_FORMAT)
    (path,) = (tmp_path / "data").iterdir()
    path.write_bytes(b"not a zip")
    assert load_or_make("key", make, IMAGE_FORMAT).name == "numbered"
    assert len(made) == 2
    assert read_image_set(path).classes == 10
    monkeypatch.setenv("LEARNED_OPT_CACHE", "/proc/nowhere")
    assert load_or_make("key", make, IMAGE_FORMAT) is images
