"""The flags of a run in several processes."""

from absl import flags

from meta_train.config import ConfigError
from meta_train.hosts.place import Place, find_place

COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT where process 0 of a run in several processes listens."
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of the processes this is, from 0.")
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many there are; SLURM, MPI and Cloud TPU tell all three."
)
JOIN_TIMEOUT = flags.DEFINE_float(
    "join_timeout", 300.0, "Seconds to wait for the other processes at the beginning."
)
PEER_TIMEOUT = flags.DEFINE_float(
    "peer_timeout", 60.0, "Seconds of silence after which another process counts as dead."
)


def given_place() -> Place:
    """The place that the flags or a launcher give; ConfigError where they do not."""
    for flag in (JOIN_TIMEOUT, PEER_TIMEOUT):
        if not 0 < flag.value < 1e6:
            raise ConfigError(f"--{flag.name}={flag.value}: must be positive, in seconds")
    return find_place(COORDINATOR.value, PROCESS_ID.value, NUM_PROCESSES.value)
