"""A run that is killed at any moment ends bit for bit as if undisturbed, and its log is whole."""

import subprocess
import sys

import pytest

from tests.end_to_end.commands import environment

KILLS = 8  # `python -m tests.end_to_end.kills` makes a hundred


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_bit_for_bit_the_same(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.end_to_end.kills",
            f"--kills={KILLS}",
            f"--folder={tmp_path}",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{KILLS} kills, " in done.stdout
