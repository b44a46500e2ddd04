"""How fast meta-training runs here:

python -m meta_train.benchmark --task=TASK --rule=RULE --particles=N --window=W --json=FILE

`throughput.py` says what is measured. `python -m meta_train.benchmark.estimators` compares the
estimators.
"""

from pathlib import Path

from absl import flags

from meta_train.benchmark.parts import PARTS
from meta_train.benchmark.throughput import Throughput, configuration, measure
from meta_train.command_line import run_command
from meta_train.config import ConfigError
from meta_train.files import write_json
from meta_train.runtime import set_up_jax
from tasks import get_family

TASK = flags.DEFINE_string("task", "fashion_mnist_8x8_mlp32", "A family of tasks.")
RULE = flags.DEFINE_string("rule", "adafactor_mlp_h32", "An update rule.")
PARTICLES = flags.DEFINE_integer("particles", 16, "Both members of a pair counted.")
WINDOW = flags.DEFINE_integer("window", 50, "Inner steps between two updates of θ.")
BATCH = flags.DEFINE_integer("batch", None, "Examples of a minibatch; the task's own if left out.")
TURNS = flags.DEFINE_integer(
    "turns", 15, "Measurements, of which the median counts.", lower_bound=1
)
JSON = flags.DEFINE_string("json", None, "File for the figures.")


def main() -> int:
    """Measure, print, and write the file."""
    config = configuration(TASK.value, RULE.value, PARTICLES.value, WINDOW.value)
    try:
        family = get_family(config.task, batch_size=BATCH.value)
        target = None if JSON.value is None else Path(JSON.value)
        if target and not target.parent.is_dir():
            raise ValueError(f"--json={JSON.value!r}: there is no directory {str(target.parent)!r}")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    set_up_jax()
    figures = measure(config, family, TURNS.value)
    print(as_text(figures))
    if target:
        write_json(target, figures._asdict())
    return 0


def as_text(figures: Throughput) -> str:
    """The figures for a terminal."""
    lines = [
        f"{figures.task}, {figures.rule}: {figures.particles} particles, windows of "
        f"{figures.window}, batch {figures.batch}; {figures.devices} × {figures.device_kind}, "
        f"{figures.block} pair(s) at a time",
        f"{figures.inner_steps_per_second:,.0f} inner steps a second, "
        f"{100 * figures.floor_fraction:.0f} % of the floor "
        f"({figures.nominal_flops / 1e9:.2f} GFLOP an update)",
        f"matrix product {figures.product_flops_per_second / 1e9:.0f} GFLOP/s, "
        f"copy {figures.copy_bytes_per_second / 1e9:.1f} GB/s",
        f"an update {1e3 * figures.update_seconds:.1f} ms: "
        + ", ".join(f"{part} {1e3 * figures.part_seconds[part]:.1f}" for part in PARTS),
        f"compiled in {figures.compile_seconds_cold:.1f} s, "
        f"from the cache in {figures.compile_seconds_cached:.2f} s; temporaries "
        f"{figures.temporary_bytes / 1e6:.1f} MB, peak of the process "
        f"{figures.peak_memory_bytes / 1e6:.0f} MB",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
