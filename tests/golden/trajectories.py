"""Weights, starts and gradients fed to public implementations, and what they made of them."""

import numpy as np

from checkpoints.convert import convert
from tests.conftest import ROOT

FOLDER = ROOT / "tests/golden"

DESIGNS = {
    "mlp_lopt": "mlp_lopt",
    "adafac_mlp_lopt_h4": "adafac_mlp_lopt",
    "adafac_mlp_lopt_h32": "adafac_mlp_lopt",
    "celo2_base": "celo2_base",
    "celo2": "celo2",
}
"""The design that the weights of a trajectory are converted as."""

RATE = {"learning_rate": 1e-2}
"""Of the trajectories of a normalised rule."""


def weights(name):
    """The rule and θ of the project's own file."""
    constants = RATE if name.startswith("celo2") else {}
    return convert(FOLDER / f"{name}.msgpack", DESIGNS[name], constants)


def steps(name):
    """(parameters, gradients, parameters after) of every step."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)

    def tree(prefix):
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    count = sum(key.startswith("grads/") and key.endswith("/scale") for key in arrays)
    return [
        (tree(f"params/{t}/"), tree(f"grads/{t}/"), tree(f"params/{t + 1}/")) for t in range(count)
    ]


def worst_deviation(name, tx, update):
    """Of parameters after a step, in units of what is allowed; each step from those recorded.

    Allowed is what the recordings promise, 1e-5 of the largest parameter and 1e-7; and no more
    than 1e-3 of the step itself and the rounding of the recorded parameters.
    """
    worst, state = 0.0, tx.init(steps(name)[0][0])
    for params, gradients, expected in steps(name):
        updates, state = update(gradients, state, params)
        for tensor, after in expected.items():
            largest, moved = np.abs(after).max(), np.abs(after - params[tensor]).max()
            allowed = min(1e-5 * largest + 1e-7, 1e-3 * moved + 2**-22 * largest)
            found = params[tensor] + np.asarray(updates[tensor])
            worst = max(worst, float(np.abs(found - after).max() / allowed))
    return worst
