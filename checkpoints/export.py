"""A learned optimizer as plain NumPy, to read, to copy and to port:

python -m checkpoints.export --optimizer=NAME_OR_PATH --output=DIR [--num_steps=N]

Writes into DIR theta.npz and manifest.json, the weights and the constants; optimizer.py and
common.py, the update rule, which needs NumPy alone; example.py, which runs it; and README.md.
"""

import importlib.resources
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import learned_opt
from checkpoints import numpy_rules
from checkpoints.command_line import run_command
from checkpoints.export_texts import EXAMPLE, README
from checkpoints.numpy_rules.common import check_state_dtype
from learned_opt.portable.files import replace_directory
from learned_opt.portable.manifest import to_text
from learned_opt.portable.theta import named_leaves

IMPORT_HERE, IMPORT_THERE = "from checkpoints.numpy_rules import common", "import common"
BYTECODE = "__pycache__"
RATE = 0.05
SHAPES: Mapping[str, Sequence[int]] = {"w": (4, 3), "b": (3,)}
"""The parameters of the example, unless the optimizer wants others."""


class ExportError(ValueError):
    """An optimizer that cannot be exported, or a directory that it cannot be exported to."""


def define_flags(argv: Sequence[str]) -> None:
    """The flags of the command; here, as other commands have some of the same names."""
    del argv
    flags.DEFINE_string(
        "optimizer", None, "Directory of a saved optimizer, or the name of a shipped one."
    )
    flags.DEFINE_string("output", None, "Directory for the NumPy code, the weights and an example.")
    flags.DEFINE_integer(
        "num_steps", 100, "Updates of example.py.", lower_bound=1, upper_bound=2**31 - 1
    )
    flags.mark_flags_as_required(["optimizer", "output"])


def main() -> int:
    """Export, and print the files written."""
    values = flags.FLAGS
    for path in export(values.optimizer, values.output, num_steps=values.num_steps):
        print(path)
    return 0


def export(name_or_path: str, output: str, *, num_steps: int = 100) -> list[Path]:
    """Write an optimizer as NumPy code and arrays; an older export is replaced.

    Args:
      name_or_path: as in `learned_opt.load`.
      output: the directory; its parents are made.
      num_steps: updates of the example.

    Returns the files. Raises:
      ExportError: there is no NumPy code for it, or no directory is named.
      FileExistsError: the directory is something else, and stays.
      FileNotFoundError, OptimizerFormatError: those of `learned_opt.load`.
      OSError: the directory cannot be written.
    """
    if not output.strip():
        raise ExportError(f"--output={output!r} is empty; name a directory")
    target = Path(os.path.abspath(os.path.expanduser(output)))
    files = exported_files(learned_opt.read(name_or_path), name_or_path, num_steps)
    make_way(target, files)
    replace_directory(target, files)
    return [Path(output) / name for name in files]


def make_way(target: Path, files: Iterable[str]) -> None:
    """Leave of an older export only what `replace_directory` knows: Python may have put the
    compiled modules into it.

    Raises:
      FileExistsError: it is a directory, and not an older export.
    """
    found = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if found and not {"theta.npz", "manifest.json"} <= found <= {*files, BYTECODE}:
        raise FileExistsError(
            f"{str(target)!r} is not the directory of an older export (which holds "
            f"{', '.join(files)} and no more); choose another one"
        )
    if BYTECODE in found:
        shutil.rmtree(target / BYTECODE)


def exported_files(
    portable: learned_opt.PortableOptimizer, name: str, num_steps: int
) -> dict[str, bytes]:
    """What the directory holds, by name; ExportError where the rule has no NumPy code."""
    rule, constants = portable.manifest["rule"], portable.manifest["constants"]
    if rule not in numpy_rules.NAMES:
        raise ExportError(
            f"{name!r} is of the rule {rule!r}, which has no weights and no code of its own: use "
            f"optax itself; rules that can be exported: {', '.join(numpy_rules.NAMES)}"
        )
    try:
        check_state_dtype(constants)
    except ValueError as error:
        raise ExportError(
            f"{name!r} cannot be exported: {error}; `learned_opt.read(…, state_dtype='float32')` "
            "is such an optimizer, which `learned_opt.save` writes"
        ) from None
    texts = {
        "manifest.json": to_text(portable.manifest),
        "optimizer.py": rule_source(rule),
        "common.py": source("common"),
        "example.py": example(constants, num_steps),
        "README.md": readme(portable),
    }
    return {"theta.npz": theta_file(portable.theta)} | {
        name: text.encode() for name, text in texts.items()
    }


def theta_file(theta: learned_opt.base.Theta) -> bytes:
    """θ as an .npz file, the tensors by their path."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in named_leaves(theta).items()}
    np.savez(file, **arrays)
    return file.getvalue()


def source(module: str) -> str:
    """The text of a module of `numpy_rules`."""
    folder = importlib.resources.files(numpy_rules.__name__)
    return (folder / f"{module}.py").read_text(encoding="utf-8")


def rule_source(rule: str) -> str:
    """The text of a rule that finds `common` beside it."""
    before, imported, after = source(rule).partition(f"\n{IMPORT_HERE}\n")
    assert imported, rule
    return f"{before}\n{IMPORT_THERE}\n{after}"


def example(constants: Mapping[str, Any], num_steps: int) -> str:
    """The text of example.py: parameters and options that suit the optimizer."""
    shapes, options = SHAPES, ""
    if base := constants.get("base_shapes"):
        smallest = sorted(base.items(), key=lambda item: math.prod(item[1]))[:2]
        shapes = {name: tuple(shape) for name, shape in smallest}
    if isinstance(mask := constants.get("weight_decay_mask"), dict | list):
        shapes = {name: (4, 3) for name in named_leaves(mask)}
    if "learning_rate" in constants and constants["learning_rate"] is None:
        options = f", learning_rate={RATE}"
    pairs = (f"{json.dumps(name, ensure_ascii=False)}: {shape}" for name, shape in shapes.items())
    return EXAMPLE.format(num_steps=num_steps, shapes=f"{{{', '.join(pairs)}}}", options=options)


def readme(portable: learned_opt.PortableOptimizer) -> str:
    """The text of README.md."""
    rule, constants = portable.manifest["rule"], portable.manifest["constants"]
    arguments = ["theta", "constants"]
    if "learning_rate" in constants and constants["learning_rate"] is None:
        arguments.append("learning_rate=1e-3")
    if portable.optimizer.reads_num_steps:
        arguments.append("num_steps=10_000")
    return README.format(
        rule=rule,
        equation=(numpy_rules.rule_module(rule).__doc__ or "").strip(),
        arguments=", ".join(arguments),
        licence=portable.manifest["licence"],
    )


if __name__ == "__main__":
    run_command(
        main,
        (ExportError, learned_opt.OptimizerFormatError, FileNotFoundError, FileExistsError),
        define=define_flags,
    )
