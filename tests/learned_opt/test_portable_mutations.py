"""A thousand mutated optimizers: each is refused with a sentence, or is what it was."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
import tracemalloc

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt import RULES, OptimizerFormatError
from learned_opt.portable.manifest import digest

MUTATIONS = 1_000
SECONDS = 5.0
BYTES = 64e6


class Bomb:
    """Unpickled, it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def flip_bytes(draw, data):
    for _ in range(draw.choice([1, 1, 1, 4, 32])):
        place = draw.randrange(len(data))
        data[place] ^= 1 << draw.randrange(8)
    return data


def overwrite_bytes(draw, data):
    place = draw.randrange(len(data))
    data[place : place + 8] = draw.randbytes(min(8, len(data) - place))
    return data


def cut(draw, data):
    return data[: draw.randrange(len(data))]


def lengthen(draw, data):
    return data + draw.randbytes(draw.choice([1, 100, 10_000]))


def swap(draw, data):
    middle = draw.randrange(1, len(data))
    return data[middle:] + data[:middle]


def enlarge_the_header(draw, data):
    return draw.choice([2**63, 2**40, 10**8, len(data)]).to_bytes(8, "little") + data[8:]


def become_a_pickle(draw, data):
    return bytearray(pickle.dumps(Bomb("executed")))


def become_empty(draw, data):
    return bytearray()


OF_BYTES = (
    flip_bytes, flip_bytes, flip_bytes, overwrite_bytes, cut, lengthen, swap, enlarge_the_header,
    become_a_pickle, become_empty,
)  # fmt: skip
ODD = (
    None, True, -1, 0, 10**400, 1e308, 2.5, "", "x" * 300_000, "../../../etc/passwd", "\ud800",
    [], {}, [[[]]] * 5, ["../theta"], {"..": {"shape": [1]}},
)  # fmt: skip


def places(value, path=()):
    """Paths of everything in a tree of dictionaries and lists."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(child, (*path, key))
    return found


def parent_of(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def mutate_manifest(draw, manifest):
    """Drop, replace, rename or repeat something anywhere; half of them with a fitting SHA-256."""
    path = draw.choice(places(manifest))
    parent, key = parent_of(manifest, path), path[-1]
    kind = draw.choice(["drop", "replace", "replace", "rename", "nudge"])
    if kind == "drop":
        del parent[key]
    elif kind == "replace":
        parent[key] = draw.choice(ODD)
    elif kind == "rename" and isinstance(parent, dict):
        parent[draw.choice(["..", "../x", "rule", "\x00"])] = parent.pop(key)
    elif isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = parent[key] * draw.choice([1, 2, -1])
    if draw.random() < 0.5:
        try:
            manifest["sha256"] = digest(manifest)
        except (ValueError, TypeError):
            manifest["sha256"] = "0" * 64
    return manifest


def written(manifest):
    try:
        return json.dumps(manifest).encode()
    except ValueError:
        return b"{}"


def mutate(draw, folder, file):
    """Mutate a saved optimizer, as a directory and as a file; what it is now, in words."""
    chosen = draw.random()
    if chosen < 0.4:
        path = folder / "manifest.json"
        manifest = mutate_manifest(draw, json.loads(path.read_bytes()))
        path.write_bytes(written(manifest))
        return folder, f"manifest {manifest}"[:2_000]
    path = draw.choice([folder / "manifest.json", folder / "theta.safetensors", file, file])
    mutation = draw.choice(OF_BYTES)
    path.write_bytes(bytes(mutation(draw, bytearray(path.read_bytes()))))
    return (file if path == file else folder), f"{mutation.__name__} of {path.name}"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    rule = RULES["adafactor_mlp"]()
    theta = rule.init(jax.random.key(0))
    facts = {"tasks": [{"name": "a", "parameters": 10}], "horizons": [1, 2], "notes": "ü ∇"}
    folder = tmp_path_factory.mktemp("original")
    for name in ("o", "o.safetensors"):
        learned_opt.save(folder / name, rule, theta, meta_training=facts, licence="MIT")
    return folder, rule, theta


def restore(original, folder):
    for path in ("o/manifest.json", "o/theta.safetensors", "o.safetensors"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes((original / path).read_bytes())


def is_unchanged(found, rule, theta):
    same = jax.tree.all(jax.tree.map(np.array_equal, found.theta, theta))
    return same and dict(found.optimizer.constants) == dict(rule.constants)


def read_or_refuse(path):
    """The optimizer, or the sentence that refuses it; any other error goes through."""
    try:
        return learned_opt.read(path)
    except (OptimizerFormatError, OSError) as error:
        return str(error)


def consistent(found):
    """Whether it is what its manifest, with its own SHA-256, says: somebody wrote it so."""
    return found.manifest["sha256"] == digest(found.manifest)


@pytest.mark.slow
def test_a_thousand_mutations(original, tmp_path, monkeypatch):
    source, rule, theta = original
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    refused = unchanged = resigned = 0
    learned_opt.read(source / "o")
    tracemalloc.start()
    for index in range(MUTATIONS):
        restore(source, tmp_path)
        path, what = mutate(draw, tmp_path / "o", tmp_path / "o.safetensors")
        started = time.monotonic()
        tracemalloc.reset_peak()
        found = read_or_refuse(path)
        if isinstance(found, str):
            refused += 1
            assert 20 < len(found) < 3_000, (index, what, found[:300])
            assert "\n" not in found, (index, what)
        elif is_unchanged(found, rule, theta):
            unchanged += 1
        else:  # somebody signed other constants, which are legal ones
            resigned += 1
            assert what.startswith("manifest"), (index, what)
            assert consistent(found), (index, what)
        assert time.monotonic() - started < SECONDS, (index, what)
        assert tracemalloc.get_traced_memory()[1] < BYTES, (index, what)
        assert not (tmp_path / "executed").exists(), (index, what)
    tracemalloc.stop()
    assert refused + unchanged + resigned == MUTATIONS
    assert refused > 0.8 * MUTATIONS
    assert unchanged > 0
    assert resigned < 0.05 * MUTATIONS


def test_a_file_from_outside_is_refused_without_a_traceback_on_the_command_line(tmp_path):
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Bomb(str(tmp_path / "executed"))))
    done = subprocess.run(
        [sys.executable, "-m", "meta_train.evaluate", f"--workdir={tmp_path / 'w'}",
         f"--optimizer={tmp_path / 'evil.safetensors'}"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not a safetensors file" in done.stderr
    assert not (tmp_path / "executed").exists()
