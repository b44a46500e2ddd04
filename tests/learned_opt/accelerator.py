"""A processor that says it is a GPU, whose kernels are interpreted."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

DEVICE = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", compute_capability="9.0")


def pretend_gpu(monkeypatch, device=DEVICE, devices=1):
    """What the rules ask about the machine says that it is one with so many GPUs."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: [device] * devices)


def interpret_kernels(monkeypatch):
    """Kernels for GPUs are interpreted here, in place of the plain form."""
    # The first kernel imports what interprets it, which makes JAX trace everything again.
    like = jax.ShapeDtypeStruct((1,), jnp.float32)
    pl.pallas_call(_copy, out_shape=like, interpret=True)(jnp.ones(1))
    monkeypatch.setattr(pl, "pallas_call", partial(pl.pallas_call, interpret=True))
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cuda, **others: cuda(*args))


def _copy(source, target):
    target[:] = source[:]


def mesh_of_gpus(size=1):
    """Of devices that are not here, for programs that are only lowered."""
    device = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    auto = (jax.sharding.AxisType.Auto,)
    return jax.sharding.AbstractMesh((size,), ("x",), auto, abstract_device=device)


def compiled_for_gpu():
    """A context in which programs can be lowered for a GPU that is not here."""
    return jax.sharding.use_abstract_mesh(mesh_of_gpus())
