"""Every task of the zoo by the table of invariants: a part of them, or all as slow tests."""

import pytest

from tasks import get_family, parametric_families, rows
from tests.tasks.invariants import check

OFFLINE = [name for name, row in rows().items() if row.offline]
MEMBERS = [
    (name, index)
    for name, family in parametric_families().items()
    for index in range(len(family.shapes))
]


def sampled():
    """Beside the first member of every family, a fixed task of each domain that has none."""
    first = [name for name, index in MEMBERS if index == 0]
    domains = {get_family(f"{name}.0").metadata.domain for name in first}
    chosen = {}
    for name in OFFLINE:
        chosen.setdefault(rows()[name].make().metadata.domain, name)
    return {name for domain, name in chosen.items() if domain not in domains}


SAMPLED = sampled()


def _marked(name, fast):
    return pytest.param(name, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("name", [_marked(name, name in SAMPLED) for name in OFFLINE])
def test_a_fixed_task(name):
    check(get_family(name), rows()[name].adam)


@pytest.mark.parametrize(
    "member",
    [_marked(member, member[1] == 0) for member in MEMBERS],
    ids=lambda m: f"{m[0]}.{m[1]}",
)
def test_a_member_of_a_family(member):
    name, index = member
    check(get_family(f"{name}.{index}"), parametric_families()[name].adam)
