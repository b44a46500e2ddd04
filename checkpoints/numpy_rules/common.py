"""What the rules share, in plain NumPy; every array is float32.

Shapes: a tensor has n entries and the shape ``*shape``; what is kept for several decays has them
as its first axis, [decays, *shape]. Features are columns, [n, inputs].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]
"""Arrays by their path, "mlp/~/linear_0/w" say."""

ADAFACTOR = (
    "g", "p", "m", "v", "m/√v", "1/√v", "factored g", "row", "column", "1/√row", "1/√column",
    "factored m",
)  # fmt: skip
"""The groups of inputs of Metz et al. 2022, in their order."""

CELO = (
    "g", "clipped g", "p", "m", "v", "m/√v", "1/√v", "factored g", "g/√v", "row", "column",
    "1/√row", "1/√column", "factored m",
)  # fmt: skip
"""Those of Moudgil et al. 2025; the first nine do not read the rows and columns."""

LARGEST_GRADIENT = 1000.0
FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)


# Arguments


def check_state_dtype(constants: Mapping[str, Any]) -> None:
    """ValueError where the constants want a state of another dtype than float32."""
    dtype = constants.get("state_dtype", "float32")
    if dtype != "float32":
        raise ValueError(
            f"`state_dtype`={dtype!r}: the NumPy rules keep their state in float32; set it to "
            "'float32', which changes no update but by the rounding of the state"
        )


def required_loss(value: Any) -> np.float32:
    """The loss; ValueError where an update came without."""
    if value is None:
        raise ValueError(
            "`value`=None: this rule reads the loss; call "
            "`update(gradients, state, params, value=loss)`"
        )
    return np.float32(value)


def required_steps(num_steps: Any) -> np.float32:
    """The length of training in updates; ValueError where it is not known."""
    if num_steps is None or not 1 <= num_steps < 2**31:
        raise ValueError(
            f"`num_steps`={num_steps!r}: this rule plans its steps over the whole of training; say "
            "how many updates there will be, at least 1, as in "
            "`Optimizer(theta, constants, num_steps=10_000)`"
        )
    return np.float32(num_steps)


# A model, tensor by tensor


def update_each(
    update_one: Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, Any]],
    gradients: Tensors,
    states: Mapping[str, Any],
    params: Tensors,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``update_one(gradient, parameter, state) -> (update, state)`` of every tensor, by path.

    The update may have any shape of n entries. An empty tensor has no state, and stays.
    """
    updates, after = {}, {}
    for name, leaf in params.items():
        parameter = np.asarray(leaf, np.float32)
        update = np.zeros(parameter.shape, np.float32)
        if parameter.size:
            gradient = np.asarray(gradients[name], np.float32)
            update, after[name] = update_one(gradient, parameter, states[name])
        updates[name] = np.asarray(update, np.float32).reshape(parameter.shape)
    return updates, after


def init_each(init_one: Callable[[np.ndarray], Any], params: Tensors) -> dict[str, Any]:
    """``init_one(parameter)`` of every tensor that is not empty, by path."""
    return {name: init_one(np.asarray(p)) for name, p in params.items() if np.size(p)}


def clip_gradient(gradient: np.ndarray) -> np.ndarray:
    """The gradient within ±1000, as Celo and NNAdam read it."""
    return np.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)


# Running statistics of the gradient


def running_mean(before: np.ndarray, value: np.ndarray, decays: np.ndarray) -> np.ndarray:
    """βx + (1−β)·value for every β: from zero, without correction of the start.

    Shapes: [decays, *shape], [*shape], [decays] → [decays, *shape].
    """
    beta = decays.reshape(-1, *[1] * value.ndim)
    return beta * before + (1 - beta) * value


def fixed_decays(constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """β of the momenta, the second moments and the factored statistics, as float32."""
    kinds = ("momentum", "second_moment", "factored")
    return {kind: np.asarray(constants[f"{kind}_decays"], np.float32) for kind in kinds}


def learned_decays(theta: Tensors, constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """β = 1 − (1 − β₀)·exp(10·offset), within [0, 1], of decays with offsets in θ."""
    return {
        kind: np.clip(1 - (1 - initial) * np.exp(10 * theta[f"decays/{kind}"]), 0, 1)
        for kind, initial in fixed_decays(constants).items()
    }


def factored_axes(shape: Sequence[int]) -> tuple[int, int]:
    """(d1, d0): the second largest axis and the largest; of equal ones the later is larger."""
    order = np.argsort(shape, kind="stable")
    return int(order[-2]), int(order[-1])


def rows_and_columns(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means over d0 and over d1, which keep an extent of 1; below rank 2 twice the whole."""
    if square.ndim < 2:
        return square, square
    d1, d0 = factored_axes(square.shape)
    return square.mean(axis=d0, keepdims=True), square.mean(axis=d1, keepdims=True)


def init_statistics(parameter: np.ndarray, constants: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Zeros for `update_statistics`."""
    nothing = np.zeros(parameter.shape, np.float32)
    row, column = rows_and_columns(nothing)
    parts = {"m": ("momentum", nothing), "v": ("second_moment", nothing)}
    parts |= {"row": ("factored", row), "column": ("factored", column)}
    return {
        name: np.stack([part] * len(constants[f"{kind}_decays"]))
        for name, (kind, part) in parts.items()
    }


def update_statistics(
    before: Tensors, gradient: np.ndarray, decays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The statistics of a tensor with one more gradient.

        m ← βm + (1−β)g    v ← βv + (1−β)g²    row, column ← means of g² + 10⁻³⁰, likewise

    "m" and "v" are [decays, *shape]; "row" has an extent of 1 on the largest axis, "column" on the
    second largest; below rank 2 both are the whole of it (Shazeer and Stern 2018,
    https://arxiv.org/abs/1804.04235).
    """
    square = np.square(gradient)
    row, column = rows_and_columns(square + np.float32(1e-30))
    return {
        "m": running_mean(before["m"], gradient, decays["momentum"]),
        "v": running_mean(before["v"], square, decays["second_moment"]),
        "row": running_mean(before["row"], row, decays["factored"]),
        "column": running_mean(before["column"], column, decays["factored"]),
    }


def adam_direction(
    gradient: np.ndarray, before: Tensors, betas: Sequence[Any], epsilon: Any, step: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Adam's m̂/(√v̂ + ε), [*shape], and its m and v; ``step`` updates came before this one."""
    beta1, beta2 = betas
    m = beta1 * before["m"] + (1 - beta1) * gradient
    v = beta2 * before["v"] + (1 - beta2) * np.square(gradient)
    m_hat, v_hat = m / (1 - beta1 ** (step + 1)), v / (1 - beta2 ** (step + 1))
    return m_hat / (np.sqrt(v_hat) + epsilon), {"m": m, "v": v}


# Features of the entries of a tensor


def columns(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Shapes: [inputs, *extent], of which an extent may be 1 → [n, inputs]."""
    return np.broadcast_to(values, (len(values), *shape)).reshape(len(values), -1).T


def bounded_rsqrt(x: np.ndarray) -> np.ndarray:
    """max(x, 10⁻⁹)^{−1/2}."""
    return 1 / np.sqrt(np.maximum(x, np.float32(1e-9)))


def feature_groups(
    gradient: np.ndarray, parameter: np.ndarray, statistics: Tensors, epsilon: float
) -> dict[str, np.ndarray]:
    """Every group that `ADAFACTOR` and `CELO` name, [n, inputs] each.

    ``statistics`` have this gradient in them; ``epsilon`` is added to v under its root.
    """
    m, v, row, column = (statistics[name] for name in ("m", "v", "row", "column"))
    if parameter.ndim < 2:
        factor_of_g = bounded_rsqrt(row + np.float32(1e-9))
        factor_of_m = 1 / np.sqrt(row + np.float32(1e-6))
    else:
        d1, _ = factored_axes(parameter.shape)
        mean = row.mean(axis=1 + d1, keepdims=True)
        factor_of_g = bounded_rsqrt(row / (mean + np.float32(1e-9))) * bounded_rsqrt(column)
        factor_of_m = factor_of_g
    root = 1 / np.sqrt(v + np.float32(epsilon))
    groups = {
        "g": gradient[None],
        "clipped g": np.clip(gradient, -0.1, 0.1)[None],
        "p": parameter[None],
        "m": m,
        "v": v,
        "m/√v": m * root,
        "1/√v": root,
        "g/√v": gradient * root,
        "factored g": gradient * factor_of_g,
        "factored m": m * factor_of_m,
        "row": row,
        "column": column,
        "1/√row": 1 / np.sqrt(row + np.float32(1e-8)),
        "1/√column": 1 / np.sqrt(column + np.float32(1e-8)),
    }
    return {name: columns(group, parameter.shape) for name, group in groups.items()}


def over_rms(features: np.ndarray, epsilon: float) -> np.ndarray:
    """f·(mean of f² + ε)^{−1/2}, the mean over the entries: [..., n, inputs], as is the result."""
    mean = np.mean(np.square(features), axis=-2, keepdims=True)
    return features / np.sqrt(mean + np.float32(epsilon))


def beside(features: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Inputs that all entries share, after their own: [n, inputs], [more] → [n, inputs + more]."""
    return np.concatenate([features, np.tile(shared, (len(features), 1))], axis=1)


# Features of a whole tensor


def log_magnitude(value: Any) -> Any:
    """log(|x| + 10⁻⁸), within ±5."""
    return np.clip(np.log(np.float32(1e-8) + np.abs(value)), -5, 5)


def mean_and_variance(values: np.ndarray) -> tuple[Any, Any]:
    """Of all entries, scalars."""
    mean = np.mean(values)
    return mean, np.mean(np.square(values - mean))


# Features of the time: t updates came before this one


def tanh_of_steps(step: int, timescales: Sequence[float]) -> np.ndarray:
    """tanh(t/τ − 1) for every timescale τ, [timescales]."""
    return np.tanh(np.float32(step) / np.asarray(timescales, np.float32) - 1)


def tanh_of_fraction(fraction: Any) -> np.ndarray:
    """tanh(10(x − c)) for nine centres c, of the share x of training that is done, [9]."""
    return np.tanh((np.float32(fraction) - np.asarray(FRACTIONS, np.float32)) * 10)


# Networks: Haiku's, with its names


def linear(theta: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    """`hk.Linear`: xW + b. Shapes: [..., inputs] → [..., outputs]."""
    return x @ theta[f"{name}/w"] + theta[f"{name}/b"]


def mlp(theta: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    """`hk.nets.MLP`: "linear_0", "linear_1" …, a ReLU between them. [n, inputs] → [n, outputs]."""
    layers = sum(key.startswith(f"{name}/linear_") and key.endswith("/w") for key in theta)
    for i in range(layers):
        x = linear(theta, f"{name}/linear_{i}", np.maximum(x, 0) if i else x)
    return x


def adafactor_outputs(
    theta: Tensors,
    gradient: np.ndarray,
    parameter: np.ndarray,
    statistics: Tensors,
    time: np.ndarray,
) -> np.ndarray:
    """The MLP on `ADAFACTOR`'s inputs, each over its RMS, and the time's: [outputs, n]."""
    groups = feature_groups(gradient, parameter, statistics, 1e-6)
    features = np.concatenate([groups[name] for name in ADAFACTOR], axis=1)
    return mlp(theta, "mlp/~", beside(over_rms(features, 1e-5), time)).T


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1/(1 + e^{−x}), in a form that does not overflow."""
    return (1 + np.tanh(x / 2)) / 2


def lstm(
    theta: Tensors, name: str, x: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`hk.LSTM`: the next hidden state, which is the output, and the next cell.

        i, g, f, o = [x, h]W + b
        c ← σ(f + 1)·c + σ(i)·tanh(g),    h ← σ(o)·tanh(c)

    The gates are in this order, and the forget gate has a bias of 1 beside the learned one.
    Shapes: [..., inputs], [..., units] twice → [..., units] twice.
    """
    i, g, f, o = gates(linear(theta, f"{name}/linear", np.concatenate([x, hidden], axis=-1)))
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def gates(product: np.ndarray) -> list[np.ndarray]:
    """i, g, f and o: [..., 4·units] → four times [..., units]."""
    return np.split(product, 4, axis=-1)
