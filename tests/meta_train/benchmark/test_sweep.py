"""The sweep over particles, windows, widths and tasks."""

import json

import pytest

from meta_train.benchmark.growth import of_width, runs_of
from meta_train.benchmark.throughput import configuration
from meta_train.config import ConfigError, tasks_of
from tests.end_to_end.commands import run

BASE = configuration("fashion_mnist_8x8_mlp32", "mlp", 16, 50)


def test_one_thing_is_varied_at_a_time():
    assert [c.particles for c in runs_of("particles", [4, 8], BASE)] == [4, 8]
    assert [(c.window, c.length_max) for c in runs_of("window", [5, 20], BASE)] == [
        (5, 50),
        (20, 200),
    ]
    assert [len(tasks_of(c)) for c in runs_of("tasks", [1, 3], BASE)] == [1, 3]
    assert runs_of("tasks", [1], BASE) == runs_of("width", [32], BASE) == [BASE]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("fashion_mnist_8x8_mlp32x32_tanh", "fashion_mnist_8x8_mlp7x7_tanh"),
        ("fashion_mnist_14x14_conv16x32", "fashion_mnist_14x14_conv7x7"),
        ("fashion_mnist_8x8_autoencoder32x8x32", "fashion_mnist_8x8_autoencoder7x7x7"),
    ],
)
def test_every_hidden_layer_gets_the_width(task, expected):
    assert of_width(task, 7) == expected


def test_a_task_without_widths_is_refused():
    with pytest.raises(ConfigError, match="'quadratic32' has no hidden widths"):
        of_width("quadratic32", 8)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("--particles=4,x", "--particles=4,x: must be whole numbers above 0"),
        ("--particles=3", "must be even"),
        ("--tasks=999", "--tasks=999: must be 1 to"),
        ("--task=fashion_mnist_8x8_softmax", "has no hidden widths"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(wrong, reason, tmp_path):
    code, _, error = run("meta_train.benchmark.sweep", f"--workdir={tmp_path / 'out'}", wrong)
    assert code != 0
    assert reason in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_more_particles_and_tasks_cost_more(tmp_path):
    code, output, error = run(
        "meta_train.benchmark.sweep", f"--workdir={tmp_path}", "--rule=mlp", "--particles=4,32",
        "--window=", "--width=8", "--tasks=1,2", "--turns=3",
    )  # fmt: skip
    assert code == 0, error
    points = json.loads((tmp_path / "sweep.json").read_text())
    assert [(p["axis"], p["value"]) for p in points] == [
        ("particles", 4), ("particles", 32), ("width", 8), ("tasks", 1), ("tasks", 2),
    ]  # fmt: skip
    few, many = points[:2]
    assert 2 < many["update_seconds"] / few["update_seconds"] < 32
    assert many["nominal_flops"] == 8 * few["nominal_flops"]
    one, two = points[-2:]
    assert two["update_seconds"] > one["update_seconds"]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "particles   32" in output + error
