"""Meetings of several processes inside of one: each is a thread."""

import socket
from concurrent.futures import ThreadPoolExecutor

from meta_train.hosts.meeting import Meeting, come
from meta_train.hosts.peers import Guest, Host
from meta_train.hosts.place import Place

FACTS = {"jax": "1.0", "config.seed": 0, "config.sigma": 0.01}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def places(count):
    port = free_port()
    return [Place(process, count, "127.0.0.1", port) for process in range(count)]


def silent(message):
    del message


class Ends:
    """In place of the end of the process: what each was told."""

    def __init__(self):
        self.told = {}

    def of(self, process):
        return lambda message: self.told.setdefault(process, message)


def gathered(count, patience=5.0):
    """(the company of each process, what ended them), after a meeting."""
    all_places, ends = places(count), Ends()
    meeting = Meeting(all_places[0], FACTS)

    def join(place):
        connection, begin = come(place, FACTS, 10, silent)
        return Guest(place.process, connection, begin["name"], patience, ends.of(place.process))

    with ThreadPoolExecutor(count) as pool:
        joining = [pool.submit(join, place) for place in all_places[1:]]
        others = meeting.wait(10)
        for connection, _ in others.values():
            connection.send({"begin": 0, "name": "host, pid 1"})
        guests = [future.result() for future in joining]
    meeting.close()
    return [Host(others, patience, ends.of(0)), *guests], ends
