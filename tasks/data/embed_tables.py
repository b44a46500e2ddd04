"""Make the embedded tables: ``python -m tasks.data.embed_tables --source=DIRECTORY``.

Reads the files that scikit-learn keeps in ``sklearn/datasets/data`` and writes the file that
this package ships: ``NAME_input`` [n, d] and ``NAME_target`` [n] for every set.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import app, flags

from tasks.data.cache import write_arrays
from tasks.data.embedded import TABLES

SOURCE = flags.DEFINE_string("source", None, "The directory of the files.", required=True)
OUTPUT = flags.DEFINE_string("output", str(TABLES), "The file to write.")

LABELLED = {"iris": "iris.csv", "wine": "wine_data.csv", "breast_cancer": "breast_cancer.csv"}


def read_tables(source: Path) -> Mapping[str, np.ndarray]:
    """Inputs are float32, but for uint8 pixels; targets int32 classes, or float32 values."""
    arrays = {}
    for name, file in LABELLED.items():
        table = np.loadtxt(source / file, delimiter=",", skiprows=1)
        arrays[f"{name}_input"] = table[:, :-1].astype(np.float32)
        arrays[f"{name}_target"] = table[:, -1].astype(np.int32)
    digits = _unpacked(source / "digits.csv.gz", ",")
    arrays["digits_input"] = digits[:, :-1].astype(np.uint8)
    arrays["digits_target"] = digits[:, -1].astype(np.int32)
    arrays["diabetes_input"] = _unpacked(source / "diabetes_data_raw.csv.gz", None).astype(
        np.float32
    )
    arrays["diabetes_target"] = _unpacked(source / "diabetes_target.csv.gz", None).astype(
        np.float32
    )
    return arrays


def _unpacked(path: Path, delimiter: str | None) -> np.ndarray:
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=delimiter)


def main(argv: list[str]) -> None:
    """Write the file named by ``--output``."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    arrays = read_tables(Path(SOURCE.value))
    write_arrays(Path(OUTPUT.value), arrays)
    for name, array in arrays.items():
        print(f"{name}: {array.dtype} {array.shape}")


if __name__ == "__main__":
    app.run(main)
