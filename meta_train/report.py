"""Draw the report of an evaluation again, without training; or compare two.

python -m meta_train.report --workdir=DIR                    from DIR's raw runs
python -m meta_train.report --workdir=DIR --against=OTHER    DIR's report beside OTHER's

Raw runs of several machines are merged by copying their raw/ into one DIR. What is missing is
said in the report, and the exit status is 3 where a threshold of the suite is not reached, 4 where
someone could not be trained.
"""

from pathlib import Path

from absl import flags

from meta_train.command_line import given_directory, run_command
from meta_train.evaluate.measured import measure_all
from meta_train.evaluate.report.comparison import compare_directories
from meta_train.evaluate.report.data import make_report
from meta_train.evaluate.report.files import write_report
from meta_train.evaluate.request import read_request
from meta_train.evaluate.sections import Sections
from meta_train.evaluate.store import Store
from meta_train.files import sole_use

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of an evaluation.")
AGAINST = flags.DEFINE_string("against", None, "Directory of another evaluation to compare with.")
flags.mark_flags_as_required(["workdir"])


def main() -> int:
    """Redraw, or compare."""
    workdir = given_directory(WORKDIR.value)
    if AGAINST.value is not None:
        return compare_directories(workdir, given_directory(AGAINST.value))
    report = redrawn(workdir)
    with sole_use(workdir):
        return write_report(workdir, report)


def redrawn(workdir: Path) -> dict:
    """The report of a working directory, from its request and its raw runs alone.

    Raises:
      ConfigError: it holds no evaluation.
    """
    request, made = read_request(workdir)
    contestants = request.contestants()
    store = Store(workdir)
    measured = measure_all(request, contestants, store)
    extras = Sections(request, contestants, measured.results, store).measure()
    return make_report(request, contestants, measured.results, measured.files, made, extras)


if __name__ == "__main__":
    run_command(main)
