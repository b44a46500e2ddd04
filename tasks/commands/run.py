"""``run``: train a task with some optimizers for a look, and draw how it went."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from tasks.catalogue import parametric_families, rows
from tasks.commands.arguments import CommandError, names_given
from tasks.commands.optimizers import EXAMPLES, parse_optimizer
from tasks.commands.training import Curves, train
from tasks.registry import get_family

OPTIMIZER = flags.DEFINE_multi_string(
    "optimizer", ["adam"], f"run: what to train with, as often as wanted: {EXAMPLES}."
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "run: of an optimizer without arguments; that of the task's row if none."
)
STEPS = flags.DEFINE_integer("steps", None, "run: inner steps; the task's horizon if none.", 1)
SEED = flags.DEFINE_integer("seed", 0, "run: of the task, its initialisation and minibatches.", 0)
OUTPUT = flags.DEFINE_string(
    "output", None, "run: file of the plot (.png, .svg or .pdf); NAME.png here if none."
)
RATE = 1e-3
LOGARITHMIC_FROM = 20  # the largest test loss over the smallest
FORMATS = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str]) -> None:
    """Train, print a line for each optimizer, and write the plot."""
    names = names_given("run", arguments)
    files = [_file(name, several=len(names) > 1) for name in names]
    optimizers = [
        {text: parse_optimizer(text, _rate(name)) for text in OPTIMIZER.value} for name in names
    ]
    for name, file, given in zip(names, files, optimizers, strict=True):
        family = get_family(name)
        steps = STEPS.value or family.metadata.horizon
        splits = family.load()
        curves = {}
        for text, optimizer in given.items():
            curves[text] = train(family, splits, optimizer, steps=steps, seed=SEED.value)
            print(f"{name}  {text}: {_summary(curves[text])}", flush=True)
        draw(name, curves, family.metadata.initial_loss, file)
        print(f"the plot is in {file}")


def _rate(name: str) -> float:
    if LEARNING_RATE.value is not None:
        return LEARNING_RATE.value
    listed = rows().get(name) or parametric_families().get(name.partition(".")[0])
    return listed.adam.rate if listed else RATE


def _file(name: str, several: bool) -> Path:
    if OUTPUT.value is not None and several:
        raise CommandError("--output is for one task; leave it out, or run them one by one")
    path = Path(OUTPUT.value or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}.png").expanduser()
    if path.suffix not in FORMATS:
        raise CommandError(f"--output={str(path)!r} must end in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise CommandError(f"--output={str(path)!r}: there is no folder {str(path.parent)!r}")
    return path


def _summary(curves: Curves) -> str:
    """Such as ``test loss 2.3 → 0.61, accuracy 0.79, 0.12 ms a step``."""
    parts = [f"test loss {curves.test[0]:.4g} → {curves.test[-1]:.4g}"]
    if curves.accuracy is not None:
        parts.append(f"accuracy {curves.accuracy[-1]:.3f}")
    if not np.isfinite(curves.test[-1]):
        parts.append(f"not finite from step {curves.steps[~np.isfinite(curves.test)][0]}")
    return ", ".join([*parts, f"{curves.seconds * 1e3:.3g} ms a step"])


def draw(name: str, curves: Mapping[str, Curves], initial_loss: float, file: Path) -> None:
    """Test loss of every optimizer over its minibatch losses, and the loss that knows nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (optimizer, curve) in enumerate(curves.items()):
        colour = f"C{number}"
        axes.plot(1 + np.arange(len(curve.train)), curve.train, color=colour, alpha=0.25, lw=0.8)
        axes.plot(curve.steps, curve.test, color=colour, label=optimizer, lw=1.6)
    axes.axhline(initial_loss, color="gray", linestyle=":", lw=1, label="knows nothing")
    shown = np.concatenate([[initial_loss], *(curve.test for curve in curves.values())])
    shown = shown[np.isfinite(shown)]
    if shown.min() > 0 and shown.max() > LOGARITHMIC_FROM * shown.min():
        axes.set_yscale("log")
    elif shown.max() > 0:
        axes.set_ylim(top=1.2 * min(shown.max(), LOGARITHMIC_FROM * initial_loss))
    axes.set(xlabel="inner steps", ylabel="loss: test, and of minibatches (pale)", title=name)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8)
    temporary = file.with_name(f".{file.stem}.partial{file.suffix}")
    figure.savefig(temporary, dpi=150)
    temporary.replace(file)
