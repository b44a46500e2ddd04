"""Calls are so short that a signal to stop is heeded soon."""

import pytest

from meta_train.pace import CALL_SECONDS, Pace


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [(0.01, 10, 10), (0.3, 10, 3), (0.3, 2, 2), (0.9, 10, 1), (40.0, 10, 1), (0.0, 7, 1)],
)
def test_a_call_makes_as_many_updates_as_fit_into_its_time(seconds, most, expected):
    pace = Pace()
    assert pace.updates(most) == 1  # nothing is known
    pace.took(4, 4 * seconds)
    assert pace.updates(most) == expected
    assert expected == 1 or expected * seconds <= CALL_SECONDS
    assert pace.one_at_a_time() == (seconds > CALL_SECONDS)


def test_a_machine_that_was_held_up_is_forgotten_with_the_next_call():
    pace = Pace()
    pace.took(10, 3600.0)
    pace.took(1, 0.01)
    assert pace.updates(10) == 10
