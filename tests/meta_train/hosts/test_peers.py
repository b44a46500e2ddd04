"""What one says all hear, in one order; who is gone, silent or elsewhere ends all."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from meta_train.hosts.peers import ALONE, END, Peers
from meta_train.hosts.place import HostsError
from tests.meta_train.hosts.company import gathered


def at_once(companies, topic, values):
    """What each hears of one gathering."""
    with ThreadPoolExecutor(len(companies)) as pool:
        said = [
            pool.submit(company.gather, topic, value)
            for company, value in zip(companies, values, strict=True)
        ]
        return [future.result(timeout=10) for future in said]


def wait_for(ends, processes, seconds):
    deadline = time.monotonic() + seconds
    while set(ends.told) < set(processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(ends.told) == set(processes)


@pytest.mark.parametrize("count", [2, 4])
def test_all_hear_what_each_says(count):
    companies, ends = gathered(count)
    for turn in range(50):
        values = [[turn, process] for process in range(count)]
        assert at_once(companies, f"turn {turn}", values) == [values] * count
    assert at_once(companies, END, [None] * count) == [[None] * count] * count
    for company in companies[1:]:
        company._connection.close()
    companies[0]._others[1][0].close()
    time.sleep(0.1)
    assert not ends.told  # whoever leaves after the end is not missed


def test_one_that_is_early_waits():
    companies, _ = gathered(2)
    with ThreadPoolExecutor(1) as pool:
        early = [pool.submit(companies[1].gather, f"turn {n}", n) for n in range(1)]
        time.sleep(0.2)
        assert not early[0].done()
        assert companies[0].gather("turn 0", "zero") == ["zero", 0]
        assert early[0].result(timeout=5) == ["zero", 0]


def test_one_that_dies_ends_the_others():
    companies, ends = gathered(4)
    companies[2]._over = True  # it is dead, it says nothing
    companies[2]._connection.close()
    wait_for(ends, [0, 1, 3], 5)
    for told in ends.told.values():
        assert "process 2 (" in told
        assert "is gone: " in told
        assert "go on from the last checkpoint" in told


def test_process_0_that_dies_ends_the_others():
    companies, ends = gathered(3)
    companies[0]._over = True
    for connection, _ in companies[0]._others.values():
        connection.close()
    wait_for(ends, [1, 2], 5)
    assert all("process 0 (host, pid 1) is gone" in told for told in ends.told.values())


def test_one_that_is_silent_for_too_long_ends_all(monkeypatch):
    """A host that hangs, or whose cable is cut, does not end its connection."""
    monkeypatch.setattr("meta_train.hosts.peers._beat", lambda connections, patience: None)
    _, ends = gathered(2, patience=0.5)
    wait_for(ends, [0, 1], 5)
    assert any("was silent for 0.5 s" in told for told in ends.told.values())


def test_signs_of_life_are_enough():
    companies, ends = gathered(2, patience=0.6)
    time.sleep(1.5)
    assert not ends.told
    assert at_once(companies, "turn", [1, 2]) == [[1, 2]] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_why_one_fails_is_told_to_the_others(failing):
    companies, ends = gathered(3)
    companies[failing].fail("no space left")
    wait_for(ends, {0, 1, 2} - {failing}, 5)
    assert set(ends.told.values()) == {f"process {failing} ended: no space left"}


def test_processes_that_are_not_at_the_same_point_end():
    companies, ends = gathered(2)
    pool = ThreadPoolExecutor(2)
    pool.submit(companies[0].gather, "update 10", None)
    pool.submit(companies[1].gather, "update 20", None)
    wait_for(ends, [0, 1], 5)
    assert "process 0 is at 'update 10' and process 1 at 'update 20'" in ends.told[0]


def test_values_that_should_be_alike():
    assert ALONE.first
    ALONE.check_alike("data", 3, "check")
    assert ALONE.gather("anything", {"a": 1}) == [{"a": 1}]
    peers = Peers(1, 2, lambda topic, value: [3, value])
    peers.check_alike("data", 3, "check the files")
    with pytest.raises(HostsError, match="data is 3 in process 0 and 4 in process 1; check the fi"):
        peers.check_alike("data", 4, "check the files")
