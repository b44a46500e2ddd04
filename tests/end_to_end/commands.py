"""Commands of the project as a user gives them, each in a process of its own."""

import json
import os
import subprocess
import sys

TRAIN = "meta_train"
EVALUATE = "meta_train.evaluate"


def environment(**changes):
    """Two CPU devices, as on the machine of a user with two cores."""
    flags = "--xla_force_host_platform_device_count=2"
    return os.environ | {"XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"} | changes


def start(module, *arguments, **changes):
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module, *arguments, timeout=240, **changes):
    """(exit code, standard output, standard error)."""
    process = start(module, *arguments, **changes)
    try:
        output, error = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output, error


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def theta(workdir):
    return (workdir / "optimizer/theta.safetensors").read_bytes()
