"""The exported folder works with NumPy alone, as the optimizer does; bad input is one line."""

import errno
import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

import learned_opt
from checkpoints.export import ExportError, export, exported_files
from checkpoints.numpy_rules import NAMES
from learned_opt import RULES
from learned_opt.portable.manifest import make_manifest
from learned_opt.portable.theta import named_leaves, theta_shapes
from tests.checkpoints.numpy_comparison import random_theta
from tests.end_to_end.commands import run

EXPORT = "checkpoints.export"
FILES = ["theta.npz", "manifest.json", "optimizer.py", "common.py", "example.py", "README.md"]
STEPS = 4

ALONE = """
import sys
from importlib.abc import MetaPathFinder

OURS = {"numpy", "optimizer", "common", "example"}

class OnlyNumpy(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in OURS and top not in sys.stdlib_module_names:
            raise ImportError(f"{name} is no part of NumPy")

sys.meta_path.insert(0, OnlyNumpy())
sys.path.insert(0, ".")
sys.dont_write_bytecode = True
"""
USE = """
import json
import numpy as np
from optimizer import Optimizer

with np.load("theta.npz", allow_pickle=False) as file:
    theta = dict(file)
constants = json.load(open("manifest.json", encoding="utf-8"))["constants"]
optimizer = Optimizer(theta, constants, num_steps=10)
params = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 4, "b": np.ones((), np.float32)}
state, results = optimizer.init(params), {}
for step in range(STEPS):
    gradients = {name: p * np.float32(1 + step) for name, p in params.items()}
    updates, state = optimizer.update(gradients, state, params, value=3.0 - step)
    results |= {f"{name}{step}": update for name, update in updates.items()}
np.savez(sys.argv[1], **results)
"""


def alone(folder, code, *arguments):
    """Standard output of code in a process that can import nothing but NumPy and the folder."""
    command = [sys.executable, "-I", "-c", ALONE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def save(path, name, **constants):
    """An optimizer with random weights."""
    optimizer = RULES[name](**constants)
    theta = random_theta(theta_shapes(optimizer), seed=0)
    learned_opt.save(path, optimizer, theta, meta_training={})
    return str(path)


@pytest.mark.parametrize("rule", ["mlp", "rnn_mlp"])
def test_the_exported_folder_makes_the_updates_of_the_optimizer(tmp_path, rule):
    given = "fashion_mlp" if rule == "mlp" else save(tmp_path / "saved", rule, step_multiplier=0.1)
    folder = tmp_path / "exported"
    code, output, error = run(EXPORT, f"--optimizer={given}", f"--output={folder}")
    assert (code, error) == (0, "")
    assert output.splitlines() == [str(folder / name) for name in FILES]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)

    alone(folder, f"STEPS = {STEPS}\n{USE}", tmp_path / "updates.npz")
    updates = dict(np.load(tmp_path / "updates.npz", allow_pickle=False))
    expected = updates_in_jax(given)
    for tensor in ("w", "b"):  # b has one entry, and a step of it may come near zero
        actual, wanted = (
            np.stack([of[f"{tensor}{step}"] for step in range(STEPS)]) for of in (updates, expected)
        )
        atol = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=atol)


def updates_in_jax(given):
    tx = learned_opt.read(given).build()
    params = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 4, "b": np.ones((), np.float32)}
    state, results, update = tx.init(params), {}, jax.jit(tx.update)
    for step in range(STEPS):
        gradients = jax.tree.map(partial(np.multiply, np.float32(1 + step)), params)
        updates, state = update(gradients, state, params, value=3.0 - step)
        results |= {f"{name}{step}": np.asarray(u) for name, u in updates.items()}
    return results


@pytest.mark.parametrize("name", [*NAMES, "mu_mlp with a base", "normalized_mlp with a mask"])
def test_the_example_of_every_rule_runs(tmp_path, name):
    constants = {
        "mu_mlp with a base": {"base_shapes": {"big": [99, 99, 9], "a/b": [2, 2], 'c"': [3]}},
        "normalized_mlp with a mask": {
            "learning_rate": 0.01, "weight_decay_mask": {"a": {"w": True}, "b": False},
        },
        "hyper": {"optimizer": "adam", "schedule": "cosine"},
    }.get(name, {})  # fmt: skip
    optimizer = RULES[name.split()[0]](**constants)
    theta = random_theta(theta_shapes(optimizer), seed=0)
    manifest = make_manifest(optimizer, named_leaves(theta), {}, "Apache-2.0")
    portable = learned_opt.PortableOptimizer(optimizer, theta, manifest)
    for file, content in exported_files(portable, name, num_steps=20).items():
        (tmp_path / file).write_bytes(content)
    losses = losses_of_example(tmp_path)
    assert len(losses) == 11
    assert np.isfinite(losses).all()


def losses_of_example(folder):
    lines = alone(folder, "import runpy; runpy.run_path('example.py')").splitlines()
    assert all(line.startswith("step ") for line in lines)
    return [float(line.split()[-1]) for line in lines]


def test_the_example_of_a_shipped_optimizer_minimises(tmp_path):
    folder = tmp_path / "exported"
    export("fashion_mlp", str(folder))
    losses = losses_of_example(folder)
    assert losses[0] == 7.5
    assert losses[-1] < 0.1


def test_what_is_exported_says_what_it_is(tmp_path):
    saved = save(tmp_path / "saved", "scheduled_mlp")
    export(saved, str(tmp_path / "exported"))
    texts = {name: (tmp_path / "exported" / name).read_text() for name in FILES[1:]}
    assert "Optimizer(theta, constants, num_steps=10_000)" in texts["README.md"]
    assert "https://arxiv.org/abs/2501.12670" in texts["README.md"]
    assert str(tmp_path) not in "".join(texts.values())
    for name in ("optimizer.py", "common.py", "example.py"):
        assert "checkpoints" not in texts[name]
    assert "\nimport common\n" in texts["optimizer.py"]
    assert texts["manifest.json"] == (tmp_path / "saved/manifest.json").read_text()
    with np.load(tmp_path / "exported/theta.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for tensor, leaf in named_leaves(learned_opt.read(saved).theta).items():
        np.testing.assert_array_equal(arrays.pop(tensor), leaf)
    assert not arrays


def test_an_older_export_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "exported"
    export("fashion_mlp", str(folder), num_steps=7)
    (folder / "__pycache__").mkdir()  # what running the example leaves
    before = (folder / "example.py").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("learned_opt.portable.files.os.fsync", full)
        for target in (folder, tmp_path / "other"):
            with pytest.raises(OSError, match="No space left"):
                export("fashion_mlp", str(target), num_steps=8)
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert (folder / "example.py").read_bytes() == before
    export("fashion_mlp", str(folder), num_steps=8)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert "STEPS = 8\n" in (folder / "example.py").read_text()


@pytest.mark.parametrize("names", [["README.md"], [*FILES, "notes.txt"], ["theta.safetensors"]])
def test_a_directory_of_something_else_is_left_alone(tmp_path, names):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"'.*/mine' is not the directory of an older export"):
        export("fashion_mlp", str(folder))
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        names, "mine"
    )
    assert list(tmp_path.iterdir()) == [folder]


def test_what_has_no_numpy_code_is_refused(tmp_path):
    output = str(tmp_path / "exported")
    of_optax = save(tmp_path / "of_optax", "optax")
    with pytest.raises(ExportError, match=r"rule 'optax', which has no weights .*: mlp, "):
        export(of_optax, output)
    half = save(tmp_path / "half", "mlp", state_dtype="bfloat16")
    with pytest.raises(ExportError, match=r"`state_dtype`='bfloat16': .*state_dtype='float32'"):
        export(half, output)
    with pytest.raises(ExportError, match="--output='' is empty; name a directory"):
        export("fashion_mlp", "")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--optimizer=nope",), 2, "no learned optimizer at 'nope'"),
        (("--optimizer=of_optax",), 2, "rule 'optax'"),
        (("--optimizer=fashion_mlp", "--num_steps=0"), 2, "--num_steps=0"),
        (("--optimizer=fashion_mlp", "surplus"), 2, "unexpected argument 'surplus'"),
        ((), 2, "--optimizer must have a value"),
        (("--optimizer=fashion_mlp", f"--output={'x' * 300}"), 1, "File name too long"),
        (("--optimizer=fashion_mlp", "--output=taken"), 2, "'taken' is not the directory"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, arguments, status, told):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "of_optax", "optax")
    (tmp_path / "taken").write_text("mine")
    code, output, error = run(EXPORT, "--output=exported", *arguments)
    assert (code, output) == (status, "")
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert told in error.replace(f"{tmp_path}/", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["of_optax", "taken"]
    assert (tmp_path / "taken").read_text() == "mine"


def test_help_says_what_there_is():
    code, output, error = run(EXPORT, "--help")
    assert (code, error) == (0, "")
    for words in ("--optimizer:", "--output:", "--num_steps:", "needs NumPy alone"):
        assert words in output
