"""Tests run stricter than users: rank promotion raises, warnings are errors, no network."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

# Before JAX is imported, here and in the processes that tests start.
CACHE = Path(tempfile.gettempdir()) / f"learned-opt-tests-{os.getuid()}"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # compiles sooner
)
os.environ["LEARNED_OPT_CACHE"] = str(CACHE)

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only sockets of this machine; a test that reaches out fails at once."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
