"""Meta-training and evaluation on the embedded data need neither TFDS nor what it reads with."""

import json

import pytest

from tests.end_to_end.commands import EVALUATE, TRAIN, run

ABSENT = "tensorflow_datasets,tensorflow,array_record,importlib_resources"
WITHOUT = "tests.end_to_end.without"
SETTINGS = ("--preset=tiny", "--config.updates=2", "--config.warmup=1")


def test_what_is_absent_cannot_be_imported():
    code, _, error = run(WITHOUT, ABSENT, "tensorflow_datasets")
    assert code == 1
    assert "No module named tensorflow_datasets" in error


@pytest.mark.slow
def test_an_optimizer_is_trained_and_evaluated(tmp_path):
    code, _, error = run(WITHOUT, ABSENT, TRAIN, f"--workdir={tmp_path / 'run'}", *SETTINGS)
    assert code == 0, error
    optimizer = f"--optimizer={tmp_path / 'run/optimizer'}"
    report = tmp_path / "report"
    code, output, error = run(
        WITHOUT, ABSENT, EVALUATE, optimizer, "--suite=tiny", f"--workdir={report}"
    )
    assert code == 0, error
    assert str(report / "report.html") in output
    assert len(json.loads((report / "report.json").read_text())["tasks"]) == 2


def test_a_task_that_needs_tfds_says_so(tmp_path):
    """Of a set that is there, but cannot be read."""
    (tmp_path / "tfds/cifar10/1.0.0").mkdir(parents=True)
    (tmp_path / "tfds/cifar10/1.0.0/dataset_info.json").write_text("{}")
    places = {"TFDS_DATA_DIR": str(tmp_path / "tfds"), "LEARNED_OPT_CACHE": str(tmp_path)}
    task = "--config.task=cifar10_8x8_softmax"
    code, output, error = run(
        WITHOUT, ABSENT, TRAIN, f"--workdir={tmp_path / 'run'}", *SETTINGS, task, **places
    )
    assert code == 1
    assert output == ""
    assert "'cifar10' needs TensorFlow Datasets (No module named 'tensorflow_datasets')" in error
    assert "Traceback" not in error
