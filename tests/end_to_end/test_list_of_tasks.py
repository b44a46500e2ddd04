"""`python -m meta_train` on a list of tasks: whole, killed and resumed, and refused."""

import json
import random
import time

import pytest

import learned_opt
from tests.end_to_end.commands import TRAIN, rows, run, start, theta
from tests.end_to_end.test_bad_input import refused
from tests.end_to_end.test_meta_train import logged, wait_until

NAMES = ("quadratic8", "fashion_mnist_8x8_softmax", "quadratic16")
SETTINGS = (
    "--preset=tiny",
    f"--config.task={NAMES[0]}=2,{NAMES[1]},{NAMES[2]}@100",
    "--config.tasks_per_update=2",
    "--config.length_start=10",
    "--config.length_updates=100",
    "--config.updates=300",
    "--config.checkpoint_every=40",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    return workdir


@pytest.mark.slow
def test_what_a_run_on_a_list_leaves(undisturbed):
    logged_rows = rows(undisturbed)
    assert [row["step"] for row in logged_rows] == list(range(10, 301, 10))
    for row in logged_rows:
        windows = [row[f"windows/{name}"] for name in NAMES]
        assert sum(windows) == pytest.approx(10 * row["tasks"], abs=1e-4)
        assert (windows[2] > 0) == (row["step"] > 100)
        for name, count in zip(NAMES, windows, strict=True):
            assert (row[f"meta_loss/{name}"] is None) == (count == 0)
            assert count == 0 or 0 < row[f"meta_loss/{name}"] < 1.5  # in initial losses
    manifest = json.loads((undisturbed / "optimizer/manifest.json").read_text())
    met = manifest["meta_training"]
    assert [task["name"] for task in met["tasks"]] == list(NAMES)
    for task in met["tasks"]:
        assert task["windows"] == sum(row[f"windows/{task['name']}"] for row in logged_rows)
    assert met["inner_steps"] == 16 * 5 * sum(task["windows"] for task in met["tasks"])
    assert met["horizons"] == [10, 40]
    assert learned_opt.load(undisturbed / "optimizer")


@pytest.mark.slow
def test_killed_at_several_moments_it_ends_bit_for_bit_the_same(undisturbed, tmp_path):
    workdir, chance = tmp_path / "run", random.Random(0)
    for least in (1, chance.randint(5, 9), chance.randint(11, 20)):
        process = start(TRAIN, f"--workdir={workdir}", *SETTINGS)
        wait_until(lambda least=least: logged(workdir) >= least, process)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SETTINGS)
    assert code == 0, error
    assert "resuming after update" in error
    assert theta(workdir) == theta(undisturbed)
    cost = ("seconds", "inner_steps_per_second")
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in cost} for row in rows(w)]
        for w in (workdir, undisturbed)
    )
    assert ours == theirs


@pytest.mark.slow
def test_another_draw_is_another_run(undisturbed):
    line = refused(run(TRAIN, f"--workdir={undisturbed}", *SETTINGS, "--config.tasks_per_update=1"))
    assert "another configuration: tasks_per_update is 2 there and 1 here" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--config.task=quadratic8,nope",), "unknown task 'nope'; `python -m tasks list` has all"),
        (("--config.task=quadratic8,quadratic8=2",), "['quadratic8'] comes twice"),
        (("--config.task=quadratic8=-1,quadratic9",), "the weight '-1' of 'quadratic8' must be"),
        (("--config.task=quadratic8@5,quadratic9@9",), "no task takes part before update 5"),
        (
            ("--config.task=quadratic8,quadratic9@60",),
            "'quadratic9' takes part from update 60, and there are `config.updates`=60",
        ),
        (
            ("--config.task=quadratic8,quadratic9", "--config.tasks_per_update=3"),
            "`config.tasks_per_update`=3: `config.task` lists 2; lower it",
        ),
        (("--config.tasks_per_update=-1",), "`config.tasks_per_update`=-1: must be at least 0"),
        (("--config.task_scale=loss",), "`config.task_scale`='loss' is unknown; legal ones: ["),
        (("--config.length_start=20",), "`config.length_updates`=0 go together"),
        (
            (
                "--config.task=fashion_mnist_8x8_softmax,quadratic8",
                "--config.meta_loss=validation_accuracy",
            ),
            "`config.meta_loss`='validation_accuracy': the task 'quadratic8' has no accuracy",
        ),
    ],
)
def test_a_list_that_cannot_be_trained_on_is_refused(tmp_path, arguments, told):
    workdir = tmp_path / "run"
    line = refused(run(TRAIN, "--preset=tiny", f"--workdir={workdir}", *arguments))
    assert told in line
    assert not workdir.exists()
