"""Rows of metrics have no gap and no repeat after a resume."""

import json
import struct

import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from meta_train.metrics import MetricsWriter, read_rows


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(workdir, first, steps):
    with MetricsWriter(workdir, first_step=first) as writer:
        for step in steps:
            writer.write(step, {"meta_loss": 1.0 / step})


def test_rows_after_the_checkpoint_are_written_again(tmp_path):
    write(tmp_path, 0, [10, 20, 30, 40])
    write(tmp_path, 20, [30, 40, 50])
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30, 40, 50]
    write(tmp_path, 0, [10])
    assert [row["step"] for row in rows(tmp_path)] == [10]
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) >= 1


def test_tensorboard_gets_every_row_and_where_a_run_was_taken_up(tmp_path):
    write(tmp_path, 20, [30, 40])
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:  # a record: its length, a checksum, the event, a checksum
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    version, start, *rows_written = events
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (21, SessionLog.START)
    assert [event.step for event in rows_written] == [30, 40]
    for event in rows_written:
        (value,) = event.summary.value
        assert value.tag == "meta_loss"
        assert value.simple_value == pytest.approx(1 / event.step)


def test_a_full_disk_is_an_error_and_not_a_wait(tmp_path, monkeypatch):
    def full(self, event):
        raise OSError(28, "No space left on device")

    with MetricsWriter(tmp_path, first_step=0) as writer:
        monkeypatch.setattr(EventsWriter, "write_event", full)
        for _ in range(100):  # more than any queue holds
            with pytest.raises(OSError, match="No space left"):
                writer.write(1, {"meta_loss": 1.0})


def test_what_is_not_a_number_is_null_in_a_row(tmp_path):
    with MetricsWriter(tmp_path, first_step=0) as writer:
        writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    assert rows(tmp_path) == [{"step": 1, "a": None, "b": None, "c": 1.0}]


@pytest.mark.parametrize("damage", [b'{"step": "x"}\n', b"[1]\n", b"\xff\xfe\n", b"{}\n"])
def test_rows_are_read_up_to_a_damage(tmp_path, damage):
    write(tmp_path, 0, [10, 20])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + damage + b'{"step": 40}\n')
    assert [row["step"] for row in read_rows(path)] == [10, 20]
    assert read_rows(tmp_path / "missing") == []


def test_a_row_cut_by_a_kill_is_dropped(tmp_path):
    write(tmp_path, 0, [10, 20])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 30, "meta_l')
    write(tmp_path, 20, [30])
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30]
