"""Preparing ahead: parts on the way, the same bytes in the end, and what is missing is said."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tasks.data.tfds_images as tfds_images
from tasks import DataUnavailableError, get_family
from tasks.data.cache import cache_dir
from tasks.data.prepare import prepare
from tests.tasks.prepared_sets import prepare as prepare_shapes

CONVERT = """
import sys, time
import tasks.data.tfds_images as tfds_images
from tasks.data.prepare import prepare

tfds_images.PART = 5
read = tfds_images.PreparedImages.read

def slowly(self, split, rows, resolution):
    print(split, rows[0], flush=True)
    time.sleep(float(sys.argv[1]))
    return read(self, split, rows, resolution)

tfds_images.PreparedImages.read = slowly
print(prepare("shapes", 8, progress=False).in_words())
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_shapes(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def data_dir(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "cache"))
    return prepared


def convert(cache, pause):
    return subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(pause)],
        env=os.environ | {"LEARNED_OPT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def files(cache):
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(cache.rglob("*"))
        if path.is_file()
    }


def test_killed_while_it_converts_it_goes_on_and_ends_with_the_same_bytes(data_dir, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    output, _ = convert(undisturbed, 0).communicate()
    expected = [f"train {i}" for i in range(0, 50, 5)] + [f"test {i}" for i in range(0, 20, 5)]
    assert output.splitlines()[:-1] == expected
    assert "shapes at 8 pixels: 50 + 20 images in" in output

    process = convert(killed, 0.2)
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = sorted(path.stem for path in killed.rglob("*.npz"))
    assert 3 <= len(done) < 10
    (damaged,) = killed.rglob("train-00001.npz")
    damaged.write_bytes(damaged.read_bytes()[:50])
    output, _ = convert(killed, 0).communicate()
    assert output.splitlines()[:-1] == ["train 5", *expected[len(done) :]]
    assert files(killed) == files(undisturbed)
    assert len(files(killed)) == 1  # no part is left


def test_a_task_names_its_set_and_resolution(data_dir, monkeypatch, capsys):
    made = prepare("shapes_4x4_mlp16+flip")
    assert (made.name, made.resolution, made.train, made.held_out) == ("shapes", 4, 50, 20)
    assert made.directory == data_dir / "shapes/1.2.0"
    assert "70/70" in capsys.readouterr().err
    monkeypatch.setattr(tfds_images, "open_images", None)  # the cached arrays have to do
    assert made.arrays.parent == cache_dir() / "data"
    assert get_family("shapes_4x4_mlp16").load()["train"]["image"].shape == (40, 4, 4, 3)
    started = time.perf_counter()
    assert prepare("shapes", 4, progress=False) == made
    assert time.perf_counter() - started < 5
    only_records = prepare("shapes")
    assert (only_records.directory, only_records.arrays) == (made.directory, None)
    assert "shapes is prepared in" in only_records.in_words()
    assert "comes with the package" in prepare("fashion_mnist_8x8_mlp32").in_words()


def test_what_is_missing_is_said(data_dir, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`resolution`=0: must be at least 1"):
        prepare("shapes", 0)
    monkeypatch.setenv("LEARNED_OPT_CACHE", "/proc/nowhere")
    with pytest.raises(DataUnavailableError, match=r"could not be written .* LEARNED_OPT_CACHE"):
        prepare("shapes", 8, progress=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataUnavailableError, match="'shapes' needs TensorFlow Datasets"):
        prepare("shapes", 8, progress=False)
    with pytest.raises(DataUnavailableError, match="'other' needs TensorFlow Datasets"):
        prepare("other", 8)


def test_rows_are_read_in_the_order_asked(data_dir):
    prepared = tfds_images.open_images("shapes", data_dir / "shapes/1.2.0")
    images, labels = prepared.read("train", range(50), 4)
    order = np.random.default_rng(0).permutation(50)[:30]
    again, which = prepared.read("train", order, 4)
    np.testing.assert_array_equal(again, images[order])
    np.testing.assert_array_equal(which, labels[order])
    assert prepared.read("train", [], 4)[0].shape == (0, 4, 4, 3)
