"""Which tasks an update is made from: the list, the shares, and how often each is drawn."""

import numpy as np
import pytest

from meta_train.task_list import ListedTask, hits, parse_tasks, shares, windows_of
from tasks.suites import get_suite

LIST = parse_tasks("a,b=2,c=3@5,d=10")
WEIGHTS = np.array([1, 2, 3, 10]) / 16


def test_a_list_has_weights_and_beginnings():
    assert LIST == (("a", 1, 0), ("b", 2, 0), ("c", 3, 5), ("d", 10, 0))
    assert parse_tasks("one") == (ListedTask("one"),)
    assert parse_tasks(" a , b@7") == (("a", 1, 0), ("b", 1, 7))
    assert parse_tasks("a=1e-2,b=.5") == (("a", 0.01, 0), ("b", 0.5, 0))


def test_a_suite_and_a_family_stand_for_their_tasks():
    suite = [task.family for task in get_suite("tiny").tasks]
    assert parse_tasks("suite:tiny=2@3,one") == (*((name, 2, 3) for name in suite), ("one", 1, 0))
    assert parse_tasks("quadratics.*=2") == tuple((f"quadratics.{i}", 2, 0) for i in range(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,a=2", r"`task`='a,a=2': \['a'\] comes twice"),
        ("a=-1", "the weight '-1' of 'a' must be a positive, finite number"),
        ("a=0,b", "the weight '0' of 'a' must be"),
        ("a=inf,b", "the weight 'inf' of 'a'"),
        ("a=nan", "the weight 'nan' of 'a'"),
        ("a=x", "the weight 'x' of 'a'"),
        ("", "'' must be NAME, NAME=WEIGHT, NAME@UPDATE"),
        ("a,", "'' must be NAME"),
        ("a=1=2", "'a=1=2' must be NAME"),
        ("a@x", "'a@x' must be NAME"),
        ("a@-1", "'a@-1' must be NAME"),
        ("suite:nope", "unknown suite 'nope'; legal ones: demo, tiny"),
        ("suite:tiny,quadratic32", r"\['quadratic32'\] comes twice"),
        ("nope.*", r"'nope\.\*' are members of no parametric family; legal ones: fashion_mlps"),
        ("a@3,b@2", "no task takes part before update 2; leave out the @UPDATE"),
    ],
)
def test_a_list_that_is_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_tasks(text)


def test_all_open_tasks_have_their_weight():
    np.testing.assert_allclose(shares(LIST, 0, 0, 4), np.array([1, 2, 0, 10]) / 13)
    np.testing.assert_allclose(shares(LIST, 0, 0, 5), WEIGHTS)


@pytest.mark.parametrize("drawn", [1, 2, 3, 4])
def test_shares_are_the_weights_on_average_whatever_the_number_drawn(drawn):
    """4 σ for each task; whole numbers of hits, next to their mean, that add up."""
    updates = 4000
    found = np.array([shares(LIST, drawn, 7, 5 + k) for k in range(updates)])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    counts, expected = found * drawn, drawn * WEIGHTS
    np.testing.assert_array_equal(counts, counts.round())
    assert (np.abs(counts - expected) < 1).all()
    error = found.std(axis=0) / np.sqrt(updates) + 1e-12
    assert (np.abs(found.mean(axis=0) - WEIGHTS) < 4 * error).all()


def test_every_pair_of_tasks_meets():
    """In a fixed order, systematic sampling would draw the first with the third, always."""
    tasks = parse_tasks("a,b,c,d")
    met = np.zeros((4, 4))
    for update in range(600):
        drawn = shares(tasks, 2, 0, update) > 0
        assert drawn.sum() == 2
        met += np.outer(drawn, drawn)
    pairs = met[np.triu_indices(4, 1)] / 600
    np.testing.assert_allclose(pairs, 1 / 6, atol=4 * np.sqrt(5 / 36 / 600))


def test_a_task_that_is_not_open_is_never_drawn():
    assert not any(shares(LIST, n, 0, k)[2] for n in (0, 1, 4) for k in range(5))
    edge = 1 - 2**-32
    for uniform in (0.0, 0.5, edge):
        for last in (0.0, edge):
            expected = np.array([1.1, 1.9, 0.0])  # adds up to 3 but for rounding
            counts = hits(expected, np.array([uniform, 0.1, 0.2, last]))
            assert counts[2] == 0
            assert counts.sum() == 3


def test_a_draw_is_a_function_of_seed_and_update():
    first = [shares(LIST, 2, 1, k).tolist() for k in range(40)]
    assert first == [shares(LIST, 2, 1, k).tolist() for k in range(40)]
    assert first != [shares(LIST, 2, 2, k).tolist() for k in range(40)]
    assert len({tuple(row) for row in first}) > 3
    # as in every version before: what NumPy promises of its bits
    tasks = parse_tasks("a,b,c")
    assert [shares(tasks, 2, 0, k).argmin() for k in range(6)] == GOLDEN


GOLDEN = [1, 0, 1, 2, 0, 1]


def test_windows_are_counted_as_they_are_drawn():
    assert windows_of(LIST, 0, 0, updates=12) == [12, 12, 7, 12]
    found = windows_of(LIST, 2, 3, updates=50)
    assert found == (np.array([shares(LIST, 2, 3, k) for k in range(50)]) > 0).sum(0).tolist()
