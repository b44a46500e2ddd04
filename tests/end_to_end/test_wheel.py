"""The built wheel, in a fresh environment, in a folder with modules of the names of ours."""

import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT

USE = """
import jax, jax.numpy as jnp, optax
import tasks, checkpoints
assert tasks.MINE and checkpoints.MINE, (tasks.__file__, checkpoints.__file__)
import learned_opt
assert "site-packages" in learned_opt.__file__, learned_opt.__file__
(name, *_) = learned_opt.list_pretrained()
tx = learned_opt.load(name)
params = {"w": jnp.ones(3)}
state = tx.init(params)
for _ in range(500):
    loss, grads = jax.value_and_grad(lambda p: jnp.sum(p["w"] ** 2))(params)
    updates, state = tx.update(grads, state, params, value=loss)
    params = optax.apply_updates(params, updates)
assert loss < 1.5, loss
print("used", name)
"""


def check(command, **settings):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_installs_and_its_optimizer_is_used_beside_a_users_modules(tmp_path):
    build = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    check([sys.executable, "-c", build, tmp_path], cwd=ROOT)
    (wheel,) = tmp_path.glob("learned_opt-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    dist_info = {top for top in tops if top.endswith(".dist-info")}
    assert tops - dist_info == {"learned_opt", "tasks", "meta_train", "checkpoints"}
    embedded = {path.name for path in (ROOT / "tasks/data").iterdir()}
    assert {"fashion_mnist_8x8.npz", "shakespeare.txt.gz", "tables.npz", "series.npz"} < embedded
    data = {f"tasks/data/{name}" for name in embedded if name.endswith((".npz", ".gz", ".txt"))}
    assert data <= set(names)
    assert any(name.startswith("learned_opt/pretrained/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)

    fresh = tmp_path / "fresh"
    check([sys.executable, "-m", "venv", fresh])
    python = fresh / "bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    check([*install, "--constraint", ROOT / "constraints.txt", wheel])

    user = tmp_path / "user"
    (user / "checkpoints").mkdir(parents=True)
    (user / "tasks.py").write_text("MINE = True\n")
    (user / "checkpoints/__init__.py").write_text("MINE = True\n")
    (user / "use.py").write_text(USE)
    assert check([python, "use.py"], cwd=user).startswith("used ")
    check([python, "-m", "meta_train", "--help"], cwd=tmp_path)
