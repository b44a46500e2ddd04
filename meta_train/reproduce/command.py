"""The command `python -m meta_train.reproduce`: from names of experiments to their files."""

from collections.abc import Sequence

from absl import flags

from meta_train.command_line import given_directory, run_command, say
from meta_train.config import ConfigError
from meta_train.files import sole_use
from meta_train.reproduce.experiment import Effort
from meta_train.reproduce.experiments import EXPERIMENTS
from meta_train.reproduce.page import for_terminal
from meta_train.reproduce.reports import INDEX, read_reports, run_experiment, write_files
from meta_train.runtime import provenance, set_up_jax

ALL = "all"
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for figures, JSON and the page.")
FAST = flags.DEFINE_bool("fast", False, "The short form of every experiment.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of every experiment, each with its own seed.")
flags.mark_flag_as_required("workdir")


def chosen(names: Sequence[str]) -> list[str]:
    """The experiments that a command line names, in the order of the registry.

    Raises:
      ConfigError: none is named, or one that there is not.
    """
    legal = f"legal ones: {ALL}, {', '.join(EXPERIMENTS)}"
    if not names:
        raise ConfigError(f"no experiment is named; {legal}")
    for name in names:
        if name != ALL and name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment {name!r}; {legal}")
    return [name for name in EXPERIMENTS if name in names or ALL in names]


def main(names: Sequence[str]) -> int:
    """Run the experiments named; the status is 1 where a claim was not seen."""
    experiments = [EXPERIMENTS[name] for name in chosen(names)]
    if SEEDS.value < 1:
        raise ConfigError(f"--seeds={SEEDS.value}: must be at least 1")
    effort = Effort(fast=FAST.value, seeds=SEEDS.value)
    workdir = given_directory(WORKDIR.value)
    set_up_jax()
    read_reports(workdir, EXPERIMENTS)  # a damaged one is refused now, not after the runs
    all_seen = True
    with sole_use(workdir):
        facts = provenance()
        for i, experiment in enumerate(experiments):
            say(f"[{i + 1}/{len(experiments)}] {experiment.name} …")
            done = run_experiment(experiment, effort, facts)
            write_files(done, workdir, EXPERIMENTS)
            print(for_terminal(done.report), flush=True)
            all_seen &= all(claim["seen"] for claim in done.report["claims"])
    print(workdir / INDEX)
    return 0 if all_seen else 1


def run() -> None:
    """The command: parse the flags, and do what they say."""
    names: list[str] = []
    run_command(lambda: main(names), take=names.extend)
