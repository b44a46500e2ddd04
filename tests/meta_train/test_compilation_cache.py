"""An entry that was cut is compiled anew and written again, by JAX as it is installed."""

import os
import signal
import subprocess
import sys
import zlib

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from meta_train.compilation_cache import CHECKED, remove_damaged_entries, without_cache

WHOLE = zlib.compress(bytes(range(256)) * 40)


def damaged(content, kind):
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1])
    return {
        "empty": b"",
        "cut": content[:middle],
        "flipped": content[:middle] + flipped + content[middle + 1 :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "flipped"])
def test_damaged_entries_are_removed_and_no_others(tmp_path, kind):
    (tmp_path / "good-cache").write_bytes(WHOLE)
    (tmp_path / "bad-cache").write_bytes(damaged(WHOLE, kind))
    (tmp_path / "zstd-cache").write_bytes(b"\x28\xb5\x2f\xfd cut")
    (tmp_path / "other").write_bytes(b"")
    assert remove_damaged_entries(tmp_path) == ["bad-cache"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        CHECKED, "good-cache", "other", "zstd-cache",
    ]  # fmt: skip


def test_an_entry_is_looked_at_once(tmp_path, monkeypatch):
    (tmp_path / "a-cache").write_bytes(WHOLE)
    assert remove_damaged_entries(tmp_path) == []
    looked = []
    monkeypatch.setattr(
        "meta_train.compilation_cache._is_whole", lambda path: looked.append(path.name) or True
    )
    (tmp_path / "b-cache").write_bytes(WHOLE)
    assert remove_damaged_entries(tmp_path) == []
    assert remove_damaged_entries(tmp_path) == []
    assert looked == ["b-cache"]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_cache_that_cannot_be_used_is_left_alone(tmp_path, folder):
    (tmp_path / "file").write_text("")
    assert remove_damaged_entries(tmp_path / folder) == []


PROGRAM = """
import resource, signal, sys
if "kill" in sys.argv:  # as soon as a file is longer than this
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from meta_train.runtime import configure_jax
configure_jax(1)
import jax, jax.numpy as jnp
print(float(jax.jit(lambda x: jnp.sort(x).sum())(jnp.arange(3.0))))
"""


def compile_in(cache, *arguments):
    changes = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, *arguments],
        env=os.environ | changes,
        capture_output=True,
        text=True,
        check=False,
    )


def entries(cache):
    return {path.name: path.stat().st_size for path in cache.glob("*-cache")}


def test_a_process_killed_while_it_writes_an_entry_does_no_lasting_harm(tmp_path):
    assert compile_in(tmp_path, "kill").returncode == -signal.SIGXFSZ
    (name,) = (name for name, size in entries(tmp_path).items() if size == 1000)
    done = compile_in(tmp_path)
    assert done.stdout == "3.0\n"
    assert "compilation cache" not in done.stderr
    assert entries(tmp_path)[name] > 1000


@pytest.fixture
def cache_folder(tmp_path):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_what_is_compiled_without_the_cache_is_neither_read_nor_kept(cache_folder):
    def compiled(factor):
        jax.jit(lambda x: factor * x).lower(jax.ShapeDtypeStruct((3,), "float32")).compile()
        return len(list(cache_folder.glob("*-cache")))

    assert compiled(2.0) == 1
    with without_cache():
        assert compiled(3.0) == 1
    assert compiled(3.0) == 2  # it is used again
    assert jax.config.values["jax_enable_compilation_cache"]
