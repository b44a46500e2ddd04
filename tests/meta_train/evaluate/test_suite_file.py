"""Suites by name, by tasks and by file; what a file may not say is named."""

import pytest

from meta_train.config import ConfigError
from meta_train.evaluate.suite_file import find_suite
from tasks import get_family
from tasks.suites import SUITES, SuiteTask, get_suite

FILE = """
name = "nightly"
tuning_seeds = 2

[[tasks]]
family = "quadratic8"
steps = 30
seeds = 4

[[tasks]]
family = "fashion_mnist_8x8_softmax"

[[thresholds]]
measure = "final_loss_ratio_iqm"
of = "low"
at_least = 0.9
"""


def test_a_file(tmp_path):
    path = tmp_path / "nightly.toml"
    path.write_text(FILE)
    suite, thresholds = find_suite(str(path))
    assert (suite.name, suite.tuning_seeds) == ("nightly", 2)
    assert suite.tasks == (
        SuiteTask("quadratic8", 30, 4),
        SuiteTask("fashion_mnist_8x8_softmax", 200, 5),
    )
    [threshold] = thresholds
    assert threshold == {"measure": "final_loss_ratio_iqm", "of": "low", "at_least": 0.9}


def test_names_and_tasks():
    assert find_suite("tiny").suite == get_suite("tiny")
    horizon = get_family("quadratic8").metadata.horizon
    assert find_suite("quadratic8,quadratic16@70").suite.tasks == (
        SuiteTask("quadratic8", horizon, 5),
        SuiteTask("quadratic16", 70, 5),
    )


def test_suites_are_legal():
    for suite in SUITES.values():
        assert suite.tuning_seeds >= 2
        for task in suite.tasks:
            assert get_family(task.family).name == task.family


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nope", r"--suite='nope' is no suite \(legal ones: demo, tiny.* unknown task 'nope'"),
        ("quadratic8@0", r"the steps of 'quadratic8@0' must be a whole number above 0"),
        ("quadratic8@many", r"the steps of 'quadratic8@many' must be a whole number above 0"),
        ("quadratic8@9,quadratic8@9", r"'quadratic8' with 9 steps is there twice"),
        ("/nowhere/x.toml", r"--suite='/nowhere/x.toml' cannot be read"),
    ],
)
def test_what_is_no_suite_is_named(text, told):
    with pytest.raises(ConfigError, match=told):
        find_suite(text)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("name = ", "nmae = ", r"unknown keys \['nmae'\]; legal ones: name, tuning_seeds"),
        ("steps = 30", "steps = 0", r"`steps`=0 must be a whole number above 0"),
        ("seeds = 4", 'seeds = "4"', r"`seeds`='4' must be"),
        ("tuning_seeds = 2", "tuning_seeds = true", r"`tuning_seeds`=True must be"),
        ('"quadratic8"', '"nope"', r"the `family` of a task: unknown task 'nope'"),
        ("[[tasks]]", "[[tsaks]]", r"unknown keys \['tsaks'\]"),
        ("steps = 30", "setps = 30", r"unknown keys \['setps'\]; legal ones: family, steps, seeds"),
        ("final_loss_ratio_iqm", "final_loss", r"`measure`='final_loss': must be one of final_l"),
        ('"low"', '"lowest"', r"`of`='lowest': must be one of value, low, high"),
        ("at_least = 0.9", "", r"needs a number `at_least` or `at_most`"),
        ("at_least = 0.9", 'at_least = "1"', r"needs a number"),
        ("at_least = 0.9", "at_least = nan", r"needs a number"),
        ("final_loss_ratio_iqm", "diverged_runs", r"`of`='low': 'diverged_runs' has no interval"),
        ("[[thresholds]]", "[thresholds.x]", r"`thresholds` must be tables, each under"),
        ("[[tasks]]", "[[tasks", r"cannot be read"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, before, after, told):
    path = tmp_path / "suite.toml"
    assert before in FILE
    path.write_text(FILE.replace(before, after))
    with pytest.raises(ConfigError, match=told):
        find_suite(str(path))


def test_a_file_without_tasks(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text('name = "empty"\n')
    with pytest.raises(ConfigError, match=r"it has no \[\[tasks\]\]"):
        find_suite(str(path))
