"""Weights of other projects as a portable optimizer:

python -m checkpoints.convert --design=celo2 --input=theta.state --output=runs/celo2

reads the msgpack files that google/learned_optimization and Celo2 write with flax. Constants that
the file's shapes do not say are the published ones, or ``--constant=name=value``; all of them are
written down. `learned_opt.load(OUTPUT)` then behaves as the other project's optimizer does.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from absl import flags

import learned_opt
from checkpoints.command_line import run_command
from checkpoints.designs import DESIGNS, Converted, convert_arrays
from checkpoints.flax_msgpack import ForeignFileError, flatten, read_flax_msgpack

DESIGN = flags.DEFINE_enum("design", None, sorted(DESIGNS), "What the weights are of.")
INPUT = flags.DEFINE_string("input", None, "The msgpack file.")
OUTPUT = flags.DEFINE_string(
    "output", None, "Directory, or .safetensors file, of the portable optimizer."
)
CONSTANT = flags.DEFINE_multi_string(
    "constant", [], "A constant of the rule, as NAME=JSON: learning_rate=0.001. May be repeated."
)
LICENCE = flags.DEFINE_string(
    "licence", None, "SPDX identifier of the weights; that of the project unless given."
)
flags.mark_flags_as_required(["design", "input", "output"])


def main() -> int:
    """Read, convert, write, and load what was written."""
    path = Path(INPUT.value).expanduser()
    converted = convert(path, DESIGN.value, given_constants())
    save(converted, path, OUTPUT.value)
    learned_opt.read(OUTPUT.value)
    needs = ", learning_rate=1e-3" if _needs_rate(converted) else ""
    print(f"{OUTPUT.value}: the rule {converted.optimizer.name!r}; to use it:")
    print(f"  tx = learned_opt.load({OUTPUT.value!r}{needs})")
    return 0


def convert(path: Path, design: str, constants: dict[str, Any]) -> Converted:
    """The rule and θ of a file.

    Raises:
      ForeignFileError: the file is not of the design.
      OSError: it cannot be read.
    """
    tree = read_flax_msgpack(path)
    if set(tree) == {"params", "gen_id", "step"}:  # a ParameterCheckpoint of learned_optimization
        tree = tree["params"]
    return convert_arrays(DESIGNS[design], flatten(tree), constants)


def save(converted: Converted, path: Path, output: str) -> None:
    """Write the portable optimizer; errors of `learned_opt.save`."""
    design = DESIGNS[DESIGN.value]
    learned_opt.save(
        output,
        converted.optimizer,
        converted.theta,
        meta_training={
            "source": {
                "project": design.source,
                "design": DESIGN.value,
                "file": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            },
            "constants_inferred_from_shapes": dict(converted.inferred),
            "constants_given": given_constants(),
        },
        licence=LICENCE.value or design.licence,
    )


def given_constants() -> dict[str, Any]:
    """What ``--constant`` says; ForeignFileError where it is no NAME=JSON."""
    result = {}
    for given in CONSTANT.value:
        name, _, value = given.partition("=")
        try:
            result[name] = json.loads(value)
        except ValueError:
            raise ForeignFileError(f"--constant={given!r}: must be NAME=JSON") from None
    return result


def _needs_rate(converted: Converted) -> bool:
    constants = converted.optimizer.constants
    return "learning_rate" in constants and constants["learning_rate"] is None


if __name__ == "__main__":
    run_command(main, (ForeignFileError, learned_opt.OptimizerFormatError))
