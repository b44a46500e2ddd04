"""Weights of other projects: what is read, what it becomes, and what is refused."""

import json
import pickle
from itertools import pairwise

import jax
import msgpack
import numpy as np
import pytest

import learned_opt
from checkpoints.convert import convert
from checkpoints.flax_msgpack import ForeignFileError, flatten, read_flax_msgpack
from tests.end_to_end.commands import run
from tests.golden import trajectories

CONVERT = "checkpoints.convert"


def packed(array):
    """An array as flax packs it."""
    content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
    return msgpack.ExtType(1, content)


def write(path, tree):
    path.write_bytes(msgpack.packb(jax.tree.map(packed, tree), use_bin_type=True))
    return path


def layers(*sizes, seed=0):
    draw = np.random.default_rng(seed)
    pairs = pairwise(sizes)
    return [
        (draw.normal(size=pair).astype(np.float32), np.zeros(pair[1], np.float32)) for pair in pairs
    ]


@pytest.mark.parametrize("name", trajectories.DESIGNS)
def test_the_command_converts_and_the_result_behaves_as_the_original(name, tmp_path):
    design, out = trajectories.DESIGNS[name], tmp_path / "out"
    arguments = (f"--design={design}", f"--input={trajectories.FOLDER / name}.msgpack")
    code, output, error = run(CONVERT, *arguments, f"--output={out}")
    assert code == 0, error
    normalised = design.startswith("celo2")
    assert f"learned_opt.load('{out}'{', learning_rate=1e-3' if normalised else ''})" in output
    tx = learned_opt.load(out, **(trajectories.RATE if normalised else {}))
    assert trajectories.worst_deviation(name, tx, jax.jit(tx.update)) < 1
    manifest = learned_opt.describe(out)
    source = manifest["meta_training"]["source"]
    assert (source["design"], source["file"]) == (design, f"{name}.msgpack")
    assert len(source["sha256"]) == 64
    assert manifest["licence"] == ("MIT" if normalised else "Apache-2.0")
    hidden = {"adafac_mlp_lopt_h4": [4, 4], "celo2": [8, 8], "celo2_base": [8, 8]}
    assert manifest["constants"]["hidden"] == hidden.get(name, [32, 32])
    assert manifest["meta_training"]["constants_inferred_from_shapes"] == {
        "hidden": hidden.get(name, [32, 32])
    }
    if normalised:
        with pytest.raises(ValueError, match="`learning_rate`=None"):
            learned_opt.load(out)


def test_constants_are_given_and_one_file_is_written(tmp_path):
    out = tmp_path / "celo2.safetensors"
    code, _, error = run(
        CONVERT, "--design=celo2", f"--input={trajectories.FOLDER / 'celo2.msgpack'}",
        f"--output={out}", "--constant=learning_rate=0.01", "--constant=weight_decay=0.1",
        "--licence=CC0-1.0",
    )  # fmt: skip
    assert code == 0, error
    manifest = learned_opt.describe(out)
    assert manifest["constants"]["learning_rate"] == 0.01
    assert manifest["constants"]["newton_schulz_steps"] == 5
    assert manifest["meta_training"]["constants_given"] == {
        "learning_rate": 0.01, "weight_decay": 0.1,
    }  # fmt: skip
    assert manifest["licence"] == "CC0-1.0"
    learned_opt.load(out).init({"w": np.ones(3, np.float32)})


def test_a_checkpoint_around_the_weights_is_looked_into(tmp_path):
    tree = {f"mlp/~/linear_{i}": {"w": w, "b": b} for i, (w, b) in enumerate(layers(19, 5, 2))}
    inside = jax.tree.map(packed, tree)
    data = msgpack.packb({"params": inside, "gen_id": "x", "step": 7}, use_bin_type=True)
    (tmp_path / "w").write_bytes(data)
    found = convert(tmp_path / "w", "mlp_lopt", {})
    assert found.inferred == {"hidden": [5]}
    np.testing.assert_array_equal(found.theta["mlp/~/linear_0"]["w"], tree["mlp/~/linear_0"]["w"])


def test_other_decays_than_the_published_ones_have_to_be_given(tmp_path):
    tree = {f"mlp/~/linear_{i}": {"w": w, "b": b} for i, (w, b) in enumerate(layers(18, 5, 2))}
    path = write(tmp_path / "w", tree)
    with pytest.raises(ForeignFileError, match=r"reads 18 inputs, the rule 'mlp' .* 19; give"):
        convert(path, "mlp_lopt", {})
    five = convert(path, "mlp_lopt", {"momentum_decays": [0.1, 0.5, 0.9, 0.99, 0.999]})
    assert len(five.optimizer.inputs) == 18
    with pytest.raises(ForeignFileError, match=r"'hidden' is \[5\] by the shapes"):
        convert(path, "mlp_lopt", {"hidden": [6]})
    with pytest.raises(ForeignFileError, match="do not fit the rule 'mlp': `step_multiplier`"):
        convert(path, "mlp_lopt", {"step_multiplier": -1})


def mlp(*sizes):
    return {f"mlp/~/linear_{i}": {"w": w, "b": b} for i, (w, b) in enumerate(layers(*sizes))}


WRONG = {
    "is of another design": lambda: {"other": np.zeros(3, np.float32)},
    "does not follow the layer before": lambda: (
        mlp(19, 4, 2)
        | {"mlp/~/linear_1": {"w": np.zeros((5, 2), np.float32), "b": np.zeros(2, np.float32)}}
    ),
    r"has no mlp/~/linear_1/b of 2 entries": lambda: (
        mlp(19, 4, 2) | {"mlp/~/linear_1": {"w": np.zeros((4, 2), np.float32)}}
    ),
    "must be a matrix": lambda: (
        mlp(19, 4, 2)
        | {"mlp/~/linear_0": {"w": np.zeros(19, np.float32), "b": np.zeros(4, np.float32)}}
    ),
    "does not hold the θ": lambda: mlp(19, 4, 3),
}


@pytest.mark.parametrize("message", WRONG)
def test_arrays_that_are_not_of_the_design_are_refused(message, tmp_path):
    with pytest.raises(ForeignFileError, match=message):
        convert(write(tmp_path / "w", WRONG[message]()), "mlp_lopt", {})


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def extension(code, content):
    return msgpack.packb({"a": msgpack.ExtType(code, content)})


FOREIGN = {
    "not a msgpack file": pickle.dumps(Bomb()),
    "Unpack failed": b"",
    "holds list, not a dictionary": msgpack.packb([1]),
    "extension 7, which is no array": extension(7, b"x"),
    "bytes do not fill its shape": extension(1, msgpack.packb(([2**40], "float32", b"1234"))),
    r"array of 'object'": extension(1, msgpack.packb(([1], "object", b"12345678"))),
    "not a msgpack file of flax": extension(1, b"\xff\xff"),
}


@pytest.mark.parametrize("message", FOREIGN)
def test_files_that_are_not_flax_msgpack_are_refused(message, tmp_path, capsys):
    (tmp_path / "w").write_bytes(FOREIGN[message])
    with pytest.raises(ForeignFileError, match=message):
        read_flax_msgpack(tmp_path / "w")
    assert "executed" not in capsys.readouterr().out


def refusal(path):
    try:
        convert(path, "adafac_mlp_lopt", {})
    except ForeignFileError as error:
        return str(error)
    return None


def test_a_thousand_mutated_files_are_refused_or_read(tmp_path):
    original = (trajectories.FOLDER / "adafac_mlp_lopt_h4.msgpack").read_bytes()
    draw = np.random.default_rng(0)
    read = 0
    for _ in range(1_000):
        data = bytearray(original)
        for place in draw.integers(0, len(data), draw.integers(1, 4)):
            data[place] ^= 1 << draw.integers(8)
        (tmp_path / "w").write_bytes(
            data[: draw.integers(1, len(data) + 1)] if draw.random() < 0.3 else data
        )
        sentence = refusal(tmp_path / "w")
        read += sentence is None
        assert "\n" not in (sentence or "")
    assert 0 < read < 1_000


def test_deep_nesting_is_refused():
    tree = {"a": np.zeros(1)}
    for _ in range(40):
        tree = {"a": tree}
    with pytest.raises(ForeignFileError, match="nested more than"):
        flatten(tree)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--design=velo",), "--design=velo"),
        (("--input=/nowhere",), "No such file"),
        (("--input={here}",), "not a msgpack file"),
        (("--constant=speed",), "--constant='speed': must be NAME=JSON"),
        (("--constant=speed=1",), "unexpected keyword argument 'speed'"),
        (("--output={here}",), "is not the directory of an optimizer"),
        (("more",), "unexpected argument 'more'"),
        (("--help",), None),
    ],
)
def test_bad_input_is_one_line(arguments, told, tmp_path):
    (tmp_path / "here").write_text("mine")
    given = [a.format(here=tmp_path / "here") for a in arguments]
    usual = [
        "--design=celo2", f"--input={trajectories.FOLDER / 'celo2.msgpack'}",
        f"--output={tmp_path / 'out'}",
    ]  # fmt: skip
    code, output, error = run(CONVERT, *usual, *given)
    if told is None:
        assert code == 0
        assert "--design" in output + error
        return
    assert code in (1, 2)
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert told in error
    assert (tmp_path / "here").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_everything_that_is_written_down_is_json():
    constants = trajectories.weights("celo2").optimizer.constants
    assert json.loads(json.dumps(dict(constants))) == dict(constants)
