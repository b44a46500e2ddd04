"""The command that measures how a run on many tasks begins."""

import json

import pytest

from meta_train.benchmark.many_tasks import THIRTY
from meta_train.task_list import parse_tasks
from tasks import get_family, parameter_count
from tests.end_to_end.commands import run

COMMAND = "meta_train.benchmark.many_tasks"


@pytest.mark.slow
def test_from_the_cache_it_takes_less(tmp_path):
    file = tmp_path / "figures.json"
    code, output, error = run(COMMAND, "--tasks=quadratic8,quadratic16", f"--json={file}")
    assert code == 0, error
    figures = json.loads(file.read_text())
    assert figures["tasks"] == ["quadratic8", "quadratic16"]
    cold, cached = figures["cold"], figures["cached"]
    assert 0 < cached["compiled"] < cold["compiled"] / 2
    assert 0 < cached["processor"] < cold["processor"] / 2
    assert "from an empty cache" in output


def test_the_thirty_tasks_are_of_many_sizes():
    tasks = parse_tasks(",".join(THIRTY))
    assert len(tasks) == 30
    families = [get_family(task.name) for task in tasks]
    assert len({family.metadata.architecture for family in families}) == 5
    assert len({parameter_count(family) for family in families}) >= 20


def test_an_unknown_task_is_refused():
    code, _, error = run(COMMAND, "--tasks=quadratic8,nope")
    assert code != 0
    assert "unknown task 'nope'" in error
    assert "Traceback" not in error
