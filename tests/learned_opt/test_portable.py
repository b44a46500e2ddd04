"""The portable format: exact, atomic, and refused with a sentence where it does not fit."""

import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import learned_opt
from learned_opt import RULES, OptimizerFormatError
from learned_opt.portable.manifest import digest, tensor_facts


@pytest.fixture
def saved(tmp_path):
    rule = RULES["mlp"](step_multiplier=0.02, hidden=(8, 4))
    theta = rule.init(jax.random.key(0))
    learned_opt.save(
        tmp_path / "optimizer", rule, theta, meta_training={"updates": 3}, licence="MIT"
    )
    return tmp_path / "optimizer", rule, theta


def edit_manifest(directory, *, signed=True, **changes):
    """With a SHA-256 that fits, as somebody who means harm would write it."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    if signed:
        manifest["sha256"] = digest(manifest)
    path.write_text(json.dumps(manifest))


def test_what_is_saved_is_loaded_bit_for_bit(saved):
    directory, rule, theta = saved
    found = learned_opt.read(directory)
    assert jax.tree.structure(found.theta) == jax.tree.structure(theta)
    jax.tree.map(np.testing.assert_array_equal, found.theta, theta)
    assert found.optimizer.name == rule.name
    assert dict(found.optimizer.constants) == dict(rule.constants)
    manifest = learned_opt.describe(directory)
    assert manifest["meta_training"] == {"updates": 3}
    assert manifest["licence"] == "MIT"
    assert sorted(path.name for path in directory.iterdir()) == [
        "manifest.json",
        "theta.safetensors",
    ]
    assert len(safetensors.numpy.load_file(directory / "theta.safetensors")) == 6

    params = jnp.ones(3)
    loaded, built = learned_opt.load(directory), rule.build(theta)
    updates, _ = loaded.update(params, loaded.init(params), params, value=1.0)
    expected, _ = built.update(params, built.init(params), params)
    np.testing.assert_array_equal(updates, expected)


def test_constants_can_be_overridden(saved):
    directory, _, _ = saved
    params = jnp.ones(3)
    plain, double = learned_opt.load(directory), learned_opt.load(directory, step_multiplier=0.04)
    once, _ = plain.update(params, plain.init(params), params)
    twice, _ = double.update(params, double.init(params), params)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    with pytest.raises(OptimizerFormatError, match=r"unknown constants.*'speed'.*step_mul"):
        learned_opt.load(directory, speed=2)
    with pytest.raises(OptimizerFormatError, match="does not hold the θ"):
        learned_opt.load(directory, hidden=(8, 8))
    with pytest.raises(OptimizerFormatError, match="`step_multiplier`"):
        learned_opt.load(directory, step_multiplier=-1.0)


def test_saving_again_replaces_the_whole_directory(saved):
    directory, rule, theta = saved
    other = jax.tree.map(lambda x: x + 1, theta)
    learned_opt.save(directory, rule, other, meta_training={})
    jax.tree.map(np.testing.assert_array_equal, learned_opt.read(directory).theta, other)
    assert [path.name for path in directory.parent.iterdir()] == ["optimizer"]


def full_disk(descriptor):
    raise OSError(28, "No space left on device")


def only_one_rename():
    rename, calls = os.rename, []

    def once(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    return once


@pytest.mark.parametrize(
    ("function", "fails"), [("fsync", full_disk), ("rename", only_one_rename())]
)
def test_a_save_that_fails_leaves_the_older_optimizer(saved, monkeypatch, function, fails):
    directory, rule, theta = saved
    monkeypatch.setattr(os, function, fails)
    with pytest.raises(OSError, match="No space left"):
        learned_opt.save(directory, rule, jax.tree.map(lambda x: x + 1, theta), meta_training={})
    jax.tree.map(np.testing.assert_array_equal, learned_opt.read(directory).theta, theta)
    assert [path.name for path in directory.parent.iterdir()] == ["optimizer"]


def test_what_a_killed_save_left_is_no_hindrance(saved):
    directory, rule, theta = saved
    for kind in ("partial", "older"):
        (directory.parent / f".optimizer.{kind}").mkdir()
        (directory.parent / f".optimizer.{kind}/theta.safetensors").write_bytes(b"half")
    learned_opt.save(directory, rule, theta, meta_training={})
    assert [path.name for path in directory.parent.iterdir()] == ["optimizer"]


def test_nothing_but_an_optimizer_is_replaced(saved, tmp_path):
    directory, rule, theta = saved
    (directory / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(directory)
    for target in (directory, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(FileExistsError, match=f"{target.name}' is not the directory of an opt"):
            learned_opt.save(target, rule, theta, meta_training={})
    assert (directory / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()


def test_theta_that_is_not_the_rules_is_not_saved(tmp_path):
    rule = RULES["mlp"]()
    theta = rule.init(jax.random.key(0))
    with pytest.raises(ValueError, match="not one of the rule"):
        learned_opt.save(tmp_path / "o", RULES["mlp"](hidden=(4,)), theta, meta_training={})
    with pytest.raises(ValueError, match="not finite"):
        learned_opt.save(
            tmp_path / "o", rule, jax.tree.map(lambda x: x * np.nan, theta), meta_training={}
        )
    assert not (tmp_path / "o").exists()


def truncate(directory):
    path = directory / "theta.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def flip_a_byte(directory):
    path = directory / "theta.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def enlarge(directory):
    path = directory / "theta.safetensors"
    path.write_bytes(path.read_bytes() + bytes(1 << 20))


def replace_tensors(directory, tensors):
    """With the hashes of the new tensors in the manifest."""
    (directory / "theta.safetensors").write_bytes(safetensors.numpy.save(tensors))
    edit_manifest(directory, theta={name: tensor_facts(t) for name, t in tensors.items()})


def disguise_a_pickle(directory):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(directory / "executed"),)

    (directory / "theta.safetensors").write_bytes(pickle.dumps(Bomb()))


def put_a_nan(directory):
    tensors = safetensors.numpy.load_file(directory / "theta.safetensors")
    tensors[min(tensors)][0] = np.nan
    replace_tensors(directory, tensors)


def name_another_tensor(directory):
    tensors = safetensors.numpy.load_file(directory / "theta.safetensors")
    replace_tensors(directory, tensors | {"more": np.zeros(3, np.float32)})


def state_another_tensor(directory):
    theta = json.loads((directory / "manifest.json").read_text())["theta"]
    edit_manifest(directory, theta=theta | {"more": theta[min(theta)]})


def lengthen_the_header(directory):
    path = directory / "theta.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


def repeat_a_key(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"rule": "mlp"', '"rule": "mlp", "rule": "mlp"'))


def write_a_nan(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"step_multiplier": 0.02', '"step_multiplier": NaN'))


def make_a_pipe(directory):
    (directory / "theta.safetensors").unlink()
    os.mkfifo(directory / "theta.safetensors")


DAMAGE = {
    r"is damaged: its tensor .* is not the one of the manifest": flip_a_byte,
    "not a safetensors file: .*not fully covered": truncate,
    "larger than the 10": enlarge,
    "not a safetensors file, or its header is longer": lengthen_the_header,
    "not a safetensors file": disguise_a_pickle,
    "has entries that are not finite": put_a_nan,
    "does not hold the θ .*: more is float32": name_another_tensor,
    r"lacks the tensors \['more'\]": state_another_tensor,
    "has no theta.safetensors": lambda d: (d / "theta.safetensors").unlink(),
    "has no theta.safetensors$": make_a_pipe,
    "is not JSON": lambda d: (d / "manifest.json").write_text("{"),
    "not JSON: maximum recursion": lambda d: (d / "manifest.json").write_text("[" * 100_000),
    "not JSON: a key stands in it twice": repeat_a_key,
    "not JSON: NaN is no number": write_a_nan,
    "larger than the 262144 bytes": lambda d: (d / "manifest.json").write_text(" " * 300_000),
    "not the manifest of a learned optimizer": lambda d: edit_manifest(d, format="other"),
    "format version '99'": lambda d: edit_manifest(d, version=99),
    "format version 'True'": lambda d: edit_manifest(d, version=True),
    "its SHA-256 is not the one": lambda d: edit_manifest(d, signed=False, licence="other"),
    "unknown rule 'nope'": lambda d: edit_manifest(d, rule="nope"),
    "other inputs of the rule": lambda d: edit_manifest(d, inputs=["g"]),
    "no 'constants' of type dict": lambda d: edit_manifest(d, constants=[]),
    "no 'licence' of type str": lambda d: edit_manifest(d, licence=None),
    "do not fit the rule": lambda d: edit_manifest(d, constants={"speed": 1}),
    "constants of .* do not fit": lambda d: edit_manifest(d, constants={"hidden": "wide"}),
    "`hidden`=30000 values": lambda d: edit_manifest(d, constants={"hidden": [1] * 30_000}),
    r"`hidden`=\[32.0": lambda d: edit_manifest(d, constants={"hidden": [32.0, 32.0]}),
    "`timescales`=": lambda d: edit_manifest(d, constants={"timescales": [1e-320]}),
    r"`step_multiplier`=1e\+300": lambda d: edit_manifest(d, constants={"step_multiplier": 1e300}),
    "`step_multiplier`=True": lambda d: edit_manifest(d, constants={"step_multiplier": True}),
    "does not hold the θ": lambda d: edit_manifest(d, constants={}),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_refused_with_a_sentence_and_executes_nothing(saved, message):
    directory, _, _ = saved
    DAMAGE[message](directory)
    with pytest.raises(OptimizerFormatError, match=message):
        learned_opt.load(directory)
    assert not (directory / "executed").exists()


def test_an_unknown_name_lists_the_shipped_ones():
    for odd in ("x" * 5_000, "~nobody-of-this-name/x"):
        with pytest.raises(FileNotFoundError, match="no learned optimizer at"):
            learned_opt.load(odd)
    with pytest.raises(FileNotFoundError, match="no learned optimizer at 'nope'") as error:
        learned_opt.load("nope")
    for name in learned_opt.list_pretrained():
        assert name in str(error.value)


def test_something_is_shipped():
    assert learned_opt.list_pretrained()


@pytest.mark.parametrize("name", learned_opt.list_pretrained())
def test_a_shipped_optimizer_at_least_halves_a_parabola(name):
    tx = optax.chain(optax.clip_by_global_norm(1e6), learned_opt.load(name))

    def loss(params):
        return sum(jnp.sum(jnp.square(p.astype(jnp.float32))) for p in jax.tree.leaves(params))

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), value

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=500)
        return loss(params)

    ones = {"w": jnp.ones((4, 3)), "b": [jnp.ones(5, jnp.bfloat16), jnp.ones(())]}
    assert train(ones) < 0.5 * loss(ones)
    many = jax.vmap(train)(jax.tree.map(lambda p: jnp.stack([p, p]), ones))
    np.testing.assert_allclose(many, train(ones), rtol=0.05)
    manifest = learned_opt.describe(name)
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["meta_training"]["updates"] > 0


def test_importing_learned_opt_is_light_and_stands_alone(tmp_path):
    """Also in a folder with modules of the names of our other packages."""
    (tmp_path / "tasks.py").write_text("raise RuntimeError('imported the tasks of a user')")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/__init__.py").write_text("raise RuntimeError('imported')")
    code = (
        "import sys; sys.path.insert(0, '.'); import learned_opt; learned_opt.list_pretrained();"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'orbax', 'matplotlib', 'tensorboardX',"
        " 'tqdm', 'ml_collections', 'tasks', 'meta_train', 'checkpoints'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
