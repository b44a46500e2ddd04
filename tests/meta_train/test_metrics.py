"""Rows of metrics have no gap and no repeat after a resume."""

import json

from meta_train.metrics import MetricsWriter


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
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_row_cut_by_a_kill_is_dropped(tmp_path):
    write(tmp_path, 0, [10, 20])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 30, "meta_l')
    write(tmp_path, 20, [30])
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30]
