"""What the launchers of clusters tell a process of its place: SLURM, MPI and Cloud TPU."""

import re
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

Environment = Mapping[str, str]


class Detected(NamedTuple):
    """The place as far as a launcher tells it; None for what it does not."""

    process: int | None
    processes: int | None
    coordinator: str | None


NOTHING = Detected(None, None, None)
PORTS = range(61440, 65536)
"""Where the port of a meeting is chosen from; jobs of one host get different ones."""


def detect(environment: Environment) -> Detected:
    """What the first launcher tells that has left its marks in the environment."""
    for launcher in LAUNCHERS:
        found = launcher(environment)
        if found.processes is not None:
            return found
    return NOTHING


def of_slurm(environment: Environment) -> Detected:
    """A task of ``srun``; the script of ``sbatch`` is none, it has no step."""
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    count = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if count is None or any(name not in environment for name in needed):
        return NOTHING
    job = f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', '0')}"
    host = first_node(environment["SLURM_STEP_NODELIST"])
    return Detected(_number(environment, "SLURM_PROCID"), count, f"{host}:{port_of(job)}")


def of_open_mpi(environment: Environment) -> Detected:
    """A rank of Open MPI. Its launcher is on the host of rank 0 unless told otherwise."""
    count = _number(environment, "OMPI_COMM_WORLD_SIZE")
    local = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    job = environment.get("PMIX_NAMESPACE") or uri.partition(";")[0]
    launcher = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", uri)
    host = next((h for h in launcher.groups() if h), None) if launcher else None
    if count is not None and count == local:
        host = "127.0.0.1"
    return Detected(_number(environment, "OMPI_COMM_WORLD_RANK"), count, _meeting(host, job))


def of_pmi(environment: Environment) -> Detected:
    """A rank of MPICH, Intel MPI or another that speaks PMI; the address only on one host."""
    count = _number(environment, "PMI_SIZE")
    one_host = count is not None and count == _number(environment, "MPI_LOCALNRANKS")
    job = environment.get("PMI_ID_NAMESPACE") or environment.get("HYDRA_JOBID", "")
    return Detected(
        _number(environment, "PMI_RANK"), count, _meeting("127.0.0.1" if one_host else None, job)
    )


def of_cloud_tpu(environment: Environment) -> Detected:
    """A worker of a Cloud TPU, from its environment (GKE) or its metadata server (GCE)."""
    listed = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    worker = _number(environment, "TPU_WORKER_ID")
    if listed is None and _is_tpu_machine(environment):
        listed = _metadata(environment, "worker-network-endpoints")
        number = _metadata(environment, "agent-worker-number")
        worker = int(number) if number and number.isdigit() else None
    if not listed or worker is None:
        return NOTHING
    # Endpoints are hosts, or name:id:host.
    hosts = [
        parts[2] if len(parts) == 3 else parts[0]
        for parts in (endpoint.strip().split(":") for endpoint in listed.split(","))
    ]
    slices = _number(environment, "MEGASCALE_NUM_SLICES") or 1
    place = worker + len(hosts) * (_number(environment, "MEGASCALE_SLICE_ID") or 0)
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS", hosts[0]).partition(":")[0]
    return Detected(place, slices * len(hosts), _meeting(first, "tpu"))


LAUNCHERS: tuple[Callable[[Environment], Detected], ...] = (
    of_slurm, of_open_mpi, of_pmi, of_cloud_tpu
)  # fmt: skip


def first_node(nodes: str) -> str:
    """The first host of SLURM's list: node[007-9,12],other gives node007."""
    prefix, bracket, rest = re.match(r"([^,\[]*)(\[?)(.*)", nodes).groups()  # type: ignore[union-attr]
    if not bracket:
        return prefix
    number, suffix = re.match(r"(\d+)[^\]]*\]([^,]*)", rest).groups()  # type: ignore[union-attr]
    return prefix + number + suffix


def port_of(job: str) -> int:
    """A port that all processes of a job find alike, without a word between them."""
    return PORTS[zlib.crc32(job.encode()) % len(PORTS)]


def _meeting(host: str | None, job: str) -> str | None:
    if host is None:
        return None
    return f"[{host}]:{port_of(job)}" if ":" in host else f"{host}:{port_of(job)}"


def _number(environment: Environment, *names: str) -> int | None:
    for name in names:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None


def _is_tpu_machine(environment: Environment) -> bool:
    if "TPU_SKIP_MDS_QUERY" in environment:
        return False
    if "GCE_METADATA_IP" in environment:
        return True
    return any(Path("/dev").glob("accel*")) and Path("/sys/class/dmi/id/product_name").exists()


def _metadata(environment: Environment, name: str) -> str | None:
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/attributes/{name}",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return None
