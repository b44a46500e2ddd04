"""The same program on accelerators, on a processor that says that it is one."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from learned_opt.kernels import native, pallas_pass
from meta_train import runtime
from meta_train.assemble import assemble
from meta_train.benchmark.throughput import peak_memory
from meta_train.parallel import default_block
from meta_train.presets import TINY
from tests.learned_opt.accelerator import interpret_kernels, pretend_gpu

CONFIG = dataclasses.replace(
    TINY, task="quadratic32", rule="adafactor_mlp", constants="{}", particles=8, devices=2
)


def advanced(config, updates):
    run = assemble(config)
    state = run.training.init(run.key_init)
    state, metrics = run.training.advance(state, np.int32(updates), run.key_updates, run.data)
    return run, jax.device_get(state.theta), jax.device_get(metrics)


@pytest.mark.slow
def test_a_run_on_two_gpus_is_that_of_two_processors(monkeypatch):
    """Nothing is set; all rows of a device go at once, through the kernel (interpreted here)."""
    of_processors, expected, losses = advanced(CONFIG, 3)
    assert of_processors.block == 1
    pretend_gpu(monkeypatch, devices=2)
    interpret_kernels(monkeypatch)
    monkeypatch.setattr(pallas_pass, "NARROW_BLOCK", 32)
    of_gpus, theta, metrics = advanced(CONFIG, 3)
    assert of_gpus.block == 2
    assert "learned_opt_network_pass" in str(
        jax.make_jaxpr(of_gpus.training.advance)(
            of_gpus.training.init(of_gpus.key_init), 1, of_gpus.key_updates, of_gpus.data
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), theta, expected)
    np.testing.assert_allclose(metrics["meta_loss"], losses["meta_loss"], rtol=1e-4)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), theta, theta_before(of_gpus))
    assert max(jax.tree.leaves(moved)) > 1e-4


def theta_before(run):
    return jax.device_get(run.training.init(run.key_init).theta)


@pytest.mark.skipif(
    jax.__version_info__ >= (0, 11), reason="JAX refuses to lower a mesh of processors for GPUs"
)
def test_the_meta_step_lowers_for_a_gpu_with_the_kernel_in_it(monkeypatch):
    pretend_gpu(monkeypatch, devices=2)
    run = assemble(dataclasses.replace(TINY, devices=2))
    assert run.block == TINY.particles // 2 // 2
    state = run.training.init(run.key_init)
    traced = run.training.advance.trace(state, np.int32(1), run.key_updates, run.data)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "xla.gpu.triton" in text
    assert not re.search(r"learned_opt_step_of_tensor|callback|infeed|outfeed", text)
    assert re.search(r"tf.aliasing_output|jax.buffer_donor", text)  # the state is taken over


def test_all_rows_of_a_device_go_at_once_on_an_accelerator(monkeypatch):
    assert default_block(8) == 1
    pretend_gpu(monkeypatch)
    assert default_block(8) == 8


@pytest.mark.parametrize(
    ("platforms", "flags", "asked"),
    [
        ("", "", 3),
        ("cpu", "", 3),
        ("cuda", "", None),
        ("cuda,cpu", "", None),
        ("", "--xla_force_host_platform_device_count=2", None),
    ],
)
def test_processors_are_divided_only_where_they_are_the_devices(
    platforms, flags, asked, monkeypatch
):
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("XLA_FLAGS", flags)
    runtime.configure_jax(3)
    assert updates.get("jax_num_cpu_devices") == asked


def test_what_a_run_says_of_its_kernels(monkeypatch):
    pretend_gpu(monkeypatch)
    assert runtime.kernels() == "compiled for this device"
    monkeypatch.setenv(native.SWITCH, "off")
    assert runtime.kernels() == f"none: {native.SWITCH}='off'"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert runtime.kernels() == "none for this platform"


def test_the_peak_of_memory_is_a_devices_where_it_says_so(monkeypatch):
    of_process = peak_memory()
    assert of_process > 50e6
    says = [SimpleNamespace(memory_stats=lambda n=n: {"peak_bytes_in_use": n}) for n in (3, 7)]
    monkeypatch.setattr(jax, "local_devices", lambda: says)
    assert peak_memory() == 7
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda: None)])
    assert peak_memory() >= of_process
