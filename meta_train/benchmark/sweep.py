"""How the cost of an update grows with the particles, the window, the model and the tasks:

python -m meta_train.benchmark.sweep --workdir=DIR [--particles=4,16,64 --window=25,50,100 …]

One thing at a time is varied from the run that `python -m meta_train.benchmark` measures, and all
runs of an axis take turns with the machine's matrix product. DIR/sweep.json holds the figures, and
DIR/sweep.png shows them beside a cost that is in proportion to the nominal operations.
"""

from collections.abc import Sequence

import jax
from absl import flags

from meta_train.benchmark.growth import Point, as_text, measure, runs_of
from meta_train.benchmark.sweep_plot import draw
from meta_train.benchmark.throughput import configuration
from meta_train.command_line import given_directory, run_command, say
from meta_train.config import ConfigError
from meta_train.files import make_directory, write_bytes, write_json
from meta_train.runtime import set_up_jax

BASE = {"particles": 16, "window": 50}

TASK = flags.DEFINE_string("task", "fashion_mnist_8x8_mlp32", "A family of tasks.")
RULE = flags.DEFINE_string("rule", "adafactor_mlp_h32", "An update rule.")
VALUES = {
    "particles": flags.DEFINE_list("particles", "4,8,16,32,64", "Values of N."),
    "window": flags.DEFINE_list("window", "12,25,50,100,200", "Values of W."),
    "width": flags.DEFINE_list("width", "8,16,32,64,128", "Widths of the task's hidden layers."),
    "tasks": flags.DEFINE_list("tasks", "1,2,4,8", "Numbers of tasks in an update."),
}
TURNS = flags.DEFINE_integer("turns", 9, "Measurements, of which the median counts.", lower_bound=1)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for the figures and the plot.")
flags.mark_flag_as_required("workdir")


def main() -> int:
    """Measure, print and draw."""
    values = {axis: _numbers(axis, flag.value) for axis, flag in VALUES.items()}
    base = configuration(TASK.value, RULE.value, **BASE)
    for axis, of_axis in values.items():
        runs_of(axis, of_axis, base)
    workdir = given_directory(WORKDIR.value)
    make_directory(workdir)
    set_up_jax()
    points: list[Point] = []
    for axis, of_axis in values.items():
        if of_axis:
            points += measure(axis, of_axis, base, TURNS.value)
            say("\n".join(as_text(p) for p in points if p.axis == axis))
            jax.clear_caches()
    write_json(workdir / "sweep.json", [point._asdict() for point in points])
    write_bytes(workdir / "sweep.png", draw(points))
    say(f"the plot is in {workdir / 'sweep.png'}")
    return 0


def _numbers(axis: str, texts: Sequence[str]) -> list[int]:
    try:
        numbers = sorted({int(text) for text in texts if text})
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise ConfigError(f"--{axis}={','.join(texts)}: must be whole numbers above 0")
    return numbers


if __name__ == "__main__":
    run_command(main)
