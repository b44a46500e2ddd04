"""Which tasks meta-training may meet: by rule, and nothing that is held out gets in."""

import pytest

from tasks import get_family, parametric_families, rows
from tasks.holdout import (
    AXES,
    HELD_OUT_ARCHITECTURES,
    HELD_OUT_DATA_SETS,
    HELD_OUT_DOMAINS,
    TASK_SPLITS,
    data_set,
    held_out_axes,
    task_split,
)
from tasks.suites import get_suite

METADATA = get_family("fashion_mnist_8x8_mlp32").metadata


def zoo():
    for row in rows().values():
        yield row.make()
    for family in parametric_families().values():
        yield from map(family.member, range(len(family.shapes)))


ZOO = list(zoo())


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({}, "meta_train"),
        ({"widths": (64, 64, 64)}, "meta_train"),
        ({"widths": (65,)}, "meta_validation"),
        ({"widths": (8,) * 4}, "meta_validation"),
        ({"horizon": 201}, "meta_validation"),
        ({"batch_size": 65}, "meta_validation"),
        ({"widths": (129,)}, "held_out_width"),
        ({"widths": (8,) * 5}, "held_out_depth"),
        ({"horizon": 501}, "held_out_horizon"),
        ({"batch_size": 129}, "held_out_batch"),
        ({"architecture": min(HELD_OUT_ARCHITECTURES)}, "held_out_architecture"),
        ({"data": f"{min(HELD_OUT_DATA_SETS)} at 8×8"}, "held_out_data"),
        ({"domain": min(HELD_OUT_DOMAINS)}, "held_out_modality"),
        ({"horizon": 501, "batch_size": 129}, "held_out_together"),
        ({"horizon": 501, "widths": (65,)}, "held_out_horizon"),
    ],
)
def test_the_rule(changes, split):
    assert task_split(METADATA._replace(**changes)) == split
    if split.startswith("held_out_") and split != "held_out_together":
        assert held_out_axes(METADATA._replace(**changes)) == (split.removeprefix("held_out_"),)


def test_nothing_held_out_is_met_in_meta_training_nor_in_meta_validation():
    """By the metadata of what is built, not by names: architectures, data sets, domains, sizes."""
    for name in ("meta_train", "meta_validation"):
        suite = get_suite(name)
        assert suite.tasks
        for task in suite.tasks:
            metadata = get_family(task.family).metadata
            assert metadata.architecture not in HELD_OUT_ARCHITECTURES, task
            assert not any(word in metadata.data for word in HELD_OUT_DATA_SETS), task
            assert metadata.domain not in HELD_OUT_DOMAINS, task
            assert max(metadata.widths, default=0) <= 128, task
            assert len(metadata.widths) <= 4, task
            assert metadata.horizon <= 500, task
            assert metadata.batch_size <= 128, task


def test_what_is_held_out_exists():
    """A name that no task has would hold nothing out."""
    assert {family.metadata.architecture for family in ZOO} >= HELD_OUT_ARCHITECTURES
    assert {data_set(family.metadata) for family in ZOO} >= HELD_OUT_DATA_SETS
    assert {family.metadata.domain for family in ZOO} >= HELD_OUT_DOMAINS


def test_every_split_has_tasks_that_need_no_network_and_each_task_one_split():
    suites = {split: get_suite(split).tasks for split in TASK_SPLITS}
    assert all(suites.values()), {split: len(tasks) for split, tasks in suites.items()}
    names = [task.family for tasks in suites.values() for task in tasks]
    assert len(names) == len(set(names))
    held_out = {task.family for task in get_suite("held_out").tasks}
    apart = {task.family for axis in AXES for task in suites[f"held_out_{axis}"]}
    assert held_out == apart | {task.family for task in suites["held_out_together"]}


def test_the_held_out_are_held_out_along_their_axis_alone():
    for axis in AXES:
        for task in get_suite(f"held_out_{axis}").tasks:
            assert held_out_axes(get_family(task.family).metadata) == (axis,)
    for task in get_suite("held_out_together").tasks:
        assert len(held_out_axes(get_family(task.family).metadata)) > 1
