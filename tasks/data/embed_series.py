"""Make the embedded series: ``python -m tasks.data.embed_series --source=DIRECTORY``.

Reads the files that statsmodels keeps in ``statsmodels/datasets`` and writes the file that
this package ships: float32 [n] for every series, values that were not measured left out.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import app, flags

from tasks.data.cache import write_arrays
from tasks.data.embedded import SERIES

SOURCE = flags.DEFINE_string("source", None, "The directory of the sets.", required=True)
OUTPUT = flags.DEFINE_string("output", str(SERIES), "The file to write.")

COLUMNS = {
    "sunspots": ("sunspots", slice(1, 2)),
    "co2": ("co2", slice(1, 2)),
    "nile": ("nile", slice(1, 2)),
    "elnino": ("elnino", slice(1, 13)),  # the months of a year are its columns
    "bill_rate": ("macrodata", slice(9, 10)),
    "unemployment": ("macrodata", slice(10, 11)),
}
"""The set of a series, and the columns that hold it, row after row."""


def read_series(source: Path) -> Mapping[str, np.ndarray]:
    """Every series of `COLUMNS` in the order of time."""
    found = {}
    for name, (file, columns) in COLUMNS.items():
        path = source / file / f"{file}.csv"
        values = np.genfromtxt(path, delimiter=",", skip_header=1)[:, columns].ravel()
        found[name] = values[np.isfinite(values)].astype(np.float32)
    return found


def main(argv: list[str]) -> None:
    """Write the file named by ``--output``."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    arrays = read_series(Path(SOURCE.value))
    write_arrays(Path(OUTPUT.value), arrays)
    for name, array in arrays.items():
        print(f"{name}: {len(array)} values")


if __name__ == "__main__":
    app.run(main)
