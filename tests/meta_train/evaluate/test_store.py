"""Raw runs are kept by all that they depend on, and what is damaged is not believed."""

import json

import numpy as np
import pytest

from meta_train.evaluate.hashing import digest, digest_of_arrays, digest_of_sources
from meta_train.evaluate.runs import Curve, RunSpec
from meta_train.evaluate.store import Store, Unit, slug

SPECS = (RunSpec(0, {"learning_rate": 0.1}, 10), RunSpec(1, {"learning_rate": 0.1}, 10))
UNIT = Unit("a task @ 10", "adam", "scored", {"data": "x", "horizon": 10}, SPECS)


def curves():
    steps = np.asarray([0, 5, 10])
    return [
        Curve(steps, *np.random.default_rng(i).normal(size=(3, 3)).astype(np.float32))
        for i in range(2)
    ]


def test_what_is_written_is_what_is_read(tmp_path):
    store = Store(tmp_path)
    assert store.read(UNIT) is None
    diverged = [c._replace(test=np.asarray([1.0, np.inf, np.nan])) for c in curves()]
    written = store.write(UNIT, diverged, {"seconds": 1.0})
    read = store.read(UNIT)
    for one, other, original in zip(written, read, diverged, strict=True):
        for a, b, c in zip(one, other, original, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, np.where(np.isfinite(c), c, np.nan), rtol=1e-6)
    path = tmp_path / UNIT.path
    assert path.parent == tmp_path / "raw/a_task_10/adam"
    header, *runs = map(json.loads, path.read_text().splitlines())
    assert (header["key"], header["made"]) == (UNIT.key, {"seconds": 1.0})
    assert [run["seed"] for run in runs] == [0, 1]


@pytest.mark.parametrize(
    "other",
    [
        UNIT._replace(basis={"data": "y", "horizon": 10}),
        UNIT._replace(basis={"data": "x", "horizon": 10, "contestant": {"manifest": "z"}}),
        UNIT._replace(specs=SPECS[:1]),
        UNIT._replace(specs=(SPECS[0], SPECS[1]._replace(seed=2))),
        UNIT._replace(specs=(SPECS[0], SPECS[1]._replace(steps=11))),
        UNIT._replace(specs=(SPECS[0], SPECS[1]._replace(curve=False))),
        UNIT._replace(specs=(SPECS[0], SPECS[1]._replace(settings={"learning_rate": 0.2}))),
    ],
)
def test_all_that_matters_is_in_the_key(tmp_path, other):
    store = Store(tmp_path)
    store.write(UNIT, curves(), {})
    assert other.key != UNIT.key
    assert store.read(other) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: text.replace('"steps": [0, 5, 10]', '"steps": [0, 5]', 1),
        lambda text: text.replace(UNIT.key, UNIT.key[::-1]),
        lambda text: "\n".join(text.splitlines()[:-1]),
        lambda text: "",
        lambda text: "[]\n" * 3,
    ],
)
def test_what_is_damaged_is_not_there(tmp_path, damage, caplog):
    store = Store(tmp_path)
    store.write(UNIT, curves(), {})
    path = tmp_path / UNIT.path
    path.write_text(damage(path.read_text()))
    assert store.read(UNIT) is None
    assert "are damaged" in caplog.text
    store.write(UNIT, curves(), {})
    assert store.read(UNIT) is not None


def test_values_are_made_once(tmp_path):
    store, made = Store(tmp_path), []

    def make():
        made.append(1)
        return {"a": [1, None]}

    assert store.values("t", "cost", {"x": 1}, None)[1] is None
    for _ in range(2):
        name, values = store.values("t", "cost", {"x": 1}, make)
        assert values == {"a": [1, None]}
        assert (tmp_path / name).is_file()
    assert store.values("t", "cost", {"x": 1}, None) == (name, {"a": [1, None]})
    assert len(made) == 1
    (path,) = (tmp_path / "raw/t").iterdir()
    path.write_text(path.read_text()[:-9])
    assert store.values("t", "cost", {"x": 1}, make) == (name, {"a": [1, None]})
    assert store.values("t", "cost", {"x": 2}, None)[1] is None
    assert len(made) == 2


def test_why_something_could_not_be_made_is_kept_until_it_is(tmp_path, caplog):
    store = Store(tmp_path)

    def fails():
        raise RuntimeError("out of memory\nand more")

    name, values = store.values("t", "cost", {"x": 1}, fails)
    assert values is None
    assert store.failure(name) == "RuntimeError: out of memory"
    assert "could not be made" in caplog.text
    assert store.values("t", "cost", {"x": 1}, None) == (name, None)
    assert store.values("t", "cost", {"x": 1}, dict) == (name, {})
    assert store.failure(name) is None
    store.write_failure(UNIT.path, ValueError(""))
    assert store.failure(UNIT.path) == "ValueError: "
    store.write(UNIT, curves(), {})
    assert store.failure(UNIT.path) is None


def test_digests():
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    arrays = {"x": np.arange(6.0), "y": np.zeros((2, 0))}
    assert digest_of_arrays(arrays) == digest_of_arrays({k: v.copy() for k, v in arrays.items()})
    for other in (
        {**arrays, "x": np.arange(6.0).reshape(2, 3)},
        {**arrays, "x": np.arange(6.0, dtype=np.float32)},
        {"z": arrays["x"], "y": arrays["y"]},
        {**arrays, "x": np.nextafter(np.arange(6.0), 9)},
    ):
        assert digest_of_arrays(other) != digest_of_arrays(arrays)
    assert len(digest_of_sources()) == 64


def test_names_of_files_are_those_of_any_system():
    assert slug("a+b:0.1:10 @ 200") == "a+b_0.1_10_200"
    assert slug("../x/tuned") == ".._x_tuned"
