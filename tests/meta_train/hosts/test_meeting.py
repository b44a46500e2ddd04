"""All processes of a run come, or every one of them says who is missing or what differs."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from meta_train.hosts.meeting import Meeting, come
from meta_train.hosts.place import HostsError, Place
from tests.meta_train.hosts.company import FACTS, free_port, gathered, places, silent


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr("meta_train.hosts.meeting.PATIENCE", 0.3)


def coming(place, facts=FACTS, seconds=10.0):
    """The end of a process that comes, in a thread: its answer, or what it raised."""
    pool = ThreadPoolExecutor(1)
    return pool.submit(come, place, facts, seconds, silent)


def refused(future):
    with pytest.raises(HostsError) as error:
        future.result(timeout=20)
    return str(error.value)


def test_they_meet_in_any_order():
    zero, one, two = places(3)
    early = coming(two)
    time.sleep(0.3)  # process 0 is not there yet
    meeting = Meeting(zero, FACTS)
    late = coming(one)
    others = meeting.wait(10)
    assert sorted(others) == [1, 2]
    for connection, name in others.values():
        assert "pid" in name
        connection.send({"begin": 7, "name": "zero"})
    assert [future.result(timeout=10)[1]["begin"] for future in (early, late)] == [7, 7]
    meeting.close()


def test_who_is_missing_is_named_to_all_that_came():
    zero, one, _, _ = places(4)
    meeting = Meeting(zero, FACTS)
    there = coming(one)
    started = time.monotonic()
    with pytest.raises(HostsError) as error:
        meeting.wait(1.0)
    assert time.monotonic() - started < 3
    for told in (str(error.value), refused(there)):
        assert f"--coordinator={zero.address}: --process_id 2, 3 of 4 did not come in 1 s" in told
        assert "--join_timeout" in told
    meeting.close()


def test_one_that_came_and_left_is_missing_too():
    zero, one, _ = places(3)
    meeting = Meeting(zero, FACTS)
    refused(coming(one, seconds=0.3))
    with pytest.raises(HostsError, match=r"--process_id 1, 2 of 3 did not come"):
        meeting.wait(0.5)
    meeting.close()


def test_one_that_waits_no_longer_names_who_is_missing():
    zero, one, _ = places(3)
    meeting = Meeting(zero, FACTS)
    told = refused(coming(one, seconds=0.5))
    assert f"--coordinator={one.address}" in told
    assert "--process_id 2 did not come" in told or "did not answer" in told
    meeting.close()


def test_a_missing_process_0_is_named_with_its_address():
    _, one = places(2)
    waits = []
    started = time.monotonic()
    with pytest.raises(HostsError) as error:
        come(one, FACTS, 1.0, waits.append)
    assert time.monotonic() - started < 3
    assert f"--coordinator={one.address}: no process 0" in str(error.value)
    assert "Connection refused" in str(error.value)
    assert waits == [f"waiting for process 0 at {one.address} (Connection refused)"]


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = Place(0, 2, "127.0.0.1", other.getsockname()[1])
        with pytest.raises(
            HostsError, match=rf"{place.address}: process 0 cannot listen there.*in"
        ):
            Meeting(place, FACTS)


def test_a_host_that_is_none():
    place = Place(0, 2, "no-such-host.invalid", 1234)
    with pytest.raises(HostsError, match=r"no-such-host.invalid:1234: there is no such host"):
        Meeting(place, FACTS)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (FACTS | {"config.seed": 5}, "config.seed is 0 in process 0 and 5 in 1"),
        (FACTS | {"jax": "1.1"}, "jax is '1.0' in process 0 and '1.1' in 1"),
    ],
)
def test_what_differs_is_named_to_all(theirs, told):
    zero, one, two = places(3)
    meeting = Meeting(zero, FACTS)
    alike = coming(two)
    time.sleep(0.2)
    other = coming(one, theirs)
    with pytest.raises(HostsError) as error:
        meeting.wait(10)
    for message in (str(error.value), refused(other), refused(alike)):
        assert told in message
        assert "--num_processes=1" in message
    meeting.close()


def test_another_number_of_processes_is_named():
    zero, one = places(2)
    meeting = Meeting(zero, FACTS)
    other = coming(one._replace(processes=3))
    with pytest.raises(HostsError, match="--num_processes is 2 in process 0 and 3 in 1"):
        meeting.wait(10)
    assert "--num_processes is 2 in process 0 and 3 in 1" in refused(other)
    meeting.close()


def test_an_id_twice_is_refused_and_the_meeting_goes_on():
    zero, one, two = places(3)
    meeting = Meeting(zero, FACTS)
    first = coming(one)
    time.sleep(0.2)
    told = refused(coming(one))
    assert "--process_id=1 is taken by" in told
    assert "--process_id=0 is taken by" in refused(coming(zero))
    third = coming(two)
    for connection, _ in meeting.wait(10).values():
        connection.send({"begin": 1, "name": "zero"})
    assert first.result(timeout=10)
    assert third.result(timeout=10)
    assert "--process_id=2 is taken by" in refused(coming(two))  # the run has begun
    meeting.close()


def test_one_that_came_and_left_may_come_again():
    zero, one, two = places(3)
    meeting = Meeting(zero, FACTS)
    refused(coming(one, seconds=0.2))
    again = coming(one)
    other = coming(two)
    for connection, _ in meeting.wait(10).values():
        connection.send({"begin": 1, "name": "zero"})
    assert again.result(timeout=10)
    assert other.result(timeout=10)
    meeting.close()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"meeting": 3}\n', b""])
def test_strangers_are_ignored(noise):
    zero, one = places(2)
    meeting = Meeting(zero, FACTS)
    stranger = socket.create_connection((zero.host, zero.port))
    stranger.sendall(noise)
    stranger.close()
    there = coming(one)
    for connection, _ in meeting.wait(10).values():
        connection.send({"begin": 1, "name": "zero"})
    assert there.result(timeout=10)
    meeting.close()


def test_another_service_at_the_address_is_told():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve():
            line, _ = server.accept()
            with line:
                line.recv(10)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        told = refused(coming(Place(1, 2, "127.0.0.1", port)))
    assert "what listens there is no process of this kind" in told


def test_the_double_of_the_company():
    companies, ends = gathered(2)
    assert len(companies) == 2
    assert not ends.told
