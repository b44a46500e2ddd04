"""The command `python -m meta_train`: from its flags to a run that was checked."""

import dataclasses
from collections.abc import Sequence

from absl import flags
from ml_collections import config_dict, config_flags

from meta_train.assemble import assemble
from meta_train.command_line import given_directory, run_command
from meta_train.config import MetaTrainConfig, as_dict, check_config
from meta_train.hosts import flags as hosts_flags
from meta_train.hosts.together import ended_with_the_others, together
from meta_train.presets import CONSTANTS, PRESETS
from meta_train.runner import check_data, check_fits, check_space, meta_train
from meta_train.runtime import configure_jax, find_devices, versions
from meta_train.workdir import check_workdir, use_of_workdir

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; made, or resumed.")
PRESET = flags.DEFINE_string("preset", "demo", f"Settings to start from: {', '.join(PRESETS)}.")
flags.mark_flag_as_required("workdir")
flags.adopt_module_key_flags(hosts_flags)


def define_config(argv: Sequence[str]) -> None:
    """Define ``--config.FIELD`` with the values of the preset that ``argv`` names."""
    early = flags.FlagValues()
    flags.DEFINE_string("preset", PRESET.default, "", flag_values=early)
    early(argv, known_only=True)
    if early.preset not in PRESETS:
        raise flags.IllegalFlagValueError(
            f"unknown --preset={early.preset!r}; legal ones: {', '.join(PRESETS)}"
        )
    settings = config_dict.ConfigDict(as_dict(_preset_for(early.preset, argv)))
    try:
        config_flags.DEFINE_config_dict("config", settings, sys_argv=list(argv))
    except AttributeError as error:
        raise flags.IllegalFlagValueError(
            f"unknown setting in --config.FIELD ({' '.join(str(error).split())}); "
            f"legal ones: {', '.join(as_dict(PRESETS[early.preset]))}"
        ) from None


def _preset_for(name: str, argv: Sequence[str]) -> MetaTrainConfig:
    """The preset, with the constants of the rule that ``argv`` may name in place of its own."""
    preset = PRESETS[name]
    given = [argument.partition("=") for argument in argv if "config.rule" in argument]
    rules = [value for flag, _, value in given if flag.lstrip("-") == "config.rule"]
    if not rules or rules[-1] == preset.rule:
        return preset
    return dataclasses.replace(preset, rule=rules[-1], constants=CONSTANTS.get(rules[-1], "{}"))


def main() -> int:
    """Run, or resume, the meta-training that the flags describe."""
    config = MetaTrainConfig(**flags.FLAGS.config.to_dict())
    check_config(config)
    workdir = given_directory(WORKDIR.value)
    place = hosts_flags.given_place()
    configure_jax(config.devices, place.processes)
    facts = versions() | {f"config.{name}": value for name, value in as_dict(config).items()}
    with together(
        place,
        facts,
        join_timeout=hosts_flags.JOIN_TIMEOUT.value,
        peer_timeout=hosts_flags.PEER_TIMEOUT.value,
    ) as peers:
        if peers.first:
            check_workdir(workdir, config)
        find_devices()
        run = assemble(config)
        check_data(run, peers)
        if peers.first:
            check_space(run, workdir)
        check_fits(run)
        with use_of_workdir(workdir, config, peers):
            return meta_train(run, workdir, peers)


def run() -> None:
    """The command: parse the flags, and do what they say."""
    ended_with_the_others(lambda: run_command(main, define_config))
