"""Which process this is: from flags, or from what launchers leave in the environment."""

import http.server
import threading

import pytest

from meta_train.config import ConfigError
from meta_train.hosts.detect import NOTHING, PORTS, detect, first_node
from meta_train.hosts.place import ALONE_HERE, Place, find_place

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "node[007-009,12]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
PMI = {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "2"}
TPU = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "t0.local,t1.local"}


def test_flags_alone():
    assert find_place("10.0.0.1:1234", 1, 2, {}) == Place(1, 2, "10.0.0.1", 1234)
    assert find_place("[fe80::1]:1234", 0, 2, {}) == Place(0, 2, "fe80::1", 1234)
    assert find_place("[fe80::1]:1234", 0, 2, {}).address == "[fe80::1]:1234"
    assert find_place(None, None, None, {}) == ALONE_HERE
    assert find_place(None, None, 1, {}) == ALONE_HERE
    assert find_place("host:1", 0, 1, {}) == ALONE_HERE


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("host:1", 2, 2), "--process_id=2: must be at least 0 and below --num_processes=2"),
        (("host:1", -1, 2), "--process_id=-1: must be at least 0"),
        (("host:1", 0, 0), "--num_processes=0: must be at least 1"),
        ((None, 1, 1), "--process_id=1: --num_processes=1 has only process 0"),
        (("host", 0, 2), "--coordinator='host': must be HOST:PORT"),
        (("host:", 0, 2), "--coordinator='host:': must be HOST:PORT"),
        ((":80", 0, 2), "--coordinator=':80': must be HOST:PORT"),
        (("host:http", 0, 2), "must be HOST:PORT"),
        (("host:0", 0, 2), "a port there from 1 to 65535"),
        (("host:65536", 0, 2), "a port there from 1 to 65535"),
        (("fe80::1:80", 0, 2), "must be HOST:PORT"),
        (("host:1", None, None), "--process_id, --num_processes missing"),
        ((None, 0, 2), "--coordinator missing"),
        ((None, None, 2), "--coordinator, --process_id missing"),
        (("host:1", 0, None), "--num_processes missing"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(ConfigError) as error:
        find_place(*flags, {})
    assert message in str(error.value)


def test_what_launchers_tell():
    place = find_place(None, None, None, SLURM)
    assert place[:3] == (2, 4, "node007")
    assert place.port in PORTS
    other_job = find_place(None, None, None, SLURM | {"SLURM_JOB_ID": "4712"})
    assert other_job.port != place.port
    assert find_place(None, None, None, OPEN_MPI)[:3] == (3, 4, "10.96.0.1")
    assert find_place(None, None, None, PMI)[:3] == (1, 2, "127.0.0.1")
    assert find_place(None, None, None, TPU)[:3] == (1, 2, "t0.local")
    slices = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}
    later = find_place(None, None, None, TPU | slices | {"MEGASCALE_COORDINATOR_ADDRESS": "s0:80"})
    assert later[:3] == (3, 4, "s0")
    addresses = {"TPU_WORKER_ID": "0", "TPU_PROCESS_ADDRESSES": "t0:8471,t1:8471"}
    assert find_place(None, None, None, addresses)[:3] == (0, 2, "t0")


def test_ranks_of_one_host_agree_on_a_port():
    one_host = OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "prterun-7@1"}
    ports = {
        find_place(None, None, None, one_host | {"OMPI_COMM_WORLD_RANK": str(rank)}).port
        for rank in range(4)
    }
    assert len(ports) == 1
    assert find_place(None, None, None, one_host).host == "127.0.0.1"


def test_flags_complete_and_outdo_what_launchers_tell():
    several_hosts = PMI | {"MPI_LOCALNRANKS": "1"}
    with pytest.raises(ConfigError, match="--coordinator missing"):
        find_place(None, None, None, several_hosts)
    assert find_place("host:80", None, None, several_hosts) == Place(1, 2, "host", 80)
    assert find_place("host:80", 3, 8, SLURM) == Place(3, 8, "host", 80)
    assert find_place(None, None, 1, SLURM) == ALONE_HERE


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"},  # the script of sbatch, or a shell of salloc
        SLURM | {"SLURM_NTASKS": "1"},
        PMI | {"PMI_SIZE": "1", "PMI_RANK": "0"},
        {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"},
    ],
)
def test_one_task_is_a_run_of_its_own(environment):
    assert find_place(None, None, None, environment) == ALONE_HERE


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("a,b", "a"),
        ("node[001-004,7]", "node001"),
        ("node[3,5].cluster,other", "node3.cluster"),
        ("n[12]", "n12"),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


class Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata server of a Cloud TPU machine."""

    answers = {"agent-worker-number": "1", "worker-network-endpoints": "a:0:10.0.0.1,b:1:10.0.0.2"}  # noqa: RUF012

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        flavored = self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if flavored and name in self.answers else 404)
        self.end_headers()
        if flavored:
            self.wfile.write(self.answers.get(name, "").encode())

    def log_message(self, *args):
        pass


def test_a_cloud_tpu_tells_by_its_metadata_server():
    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
        assert find_place(None, None, None, environment)[:3] == (1, 2, "10.0.0.1")
        assert detect(environment | {"TPU_SKIP_MDS_QUERY": "1"}) == NOTHING
        server.shutdown()
    assert detect(environment) == NOTHING  # nobody answers
