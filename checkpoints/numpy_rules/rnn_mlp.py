"""A per-tensor LSTM that drives a per-parameter MLP (Metz et al. 2020,
https://arxiv.org/abs/2009.11243).

    g       clipped to ±10·(running mean of the RMS gradient of the model)
    x       = [from all tensors, from the MLP, statistics, shape, losses]           a tensor
    h, s    ← LSTM(x, s)
    d, μ, z = MLP([g, p, log|p|, m, v, m/√v, 1/√v; sin(t/πτ), sizes, Lh])           a parameter
    p       ← p − a·d·exp(b·μ)

Of the inputs of the MLP those before the semicolon are divided by their RMS over the tensor; the
others are the same for all of it. What goes back, to be read at the next step: the mean of z over a
tensor to its LSTM, the mean of Kh over the tensors to all of them. A loss L is read as
clip((L − M̂)/√(Ŝ + 10⁻⁸), ±5), with running means M of it and S of (M − L)², their start corrected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

EPSILON = 1e-5
TRAIN_DECAY, VALIDATION_DECAY = 0.9, 0.95
CLIP_DECAY, CLIP_MULTIPLE = 0.99, 10.0
SHAPE_AXES = 4
NETWORK = "tensors/tensor_network"


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self, theta: common.Tensors, constants: Mapping[str, Any], *, num_steps: Any = None
    ):
        """θ by path and the constants of a manifest; the rule has no horizon.

        Raises:
          ValueError: the state is to be kept in another dtype than float32.
        """
        del num_steps
        common.check_state_dtype(constants)
        self.theta, self.constants = theta, constants
        self.decays = np.asarray(constants["decays"], np.float32)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, by path: ``m``, ``v`` [decays, *shape], ``hidden`` and
        ``cell`` of the LSTM, ``from_mlp``; ``from_lstm``; ``train``, ``validation``: of the losses;
        ``scale``: the running mean that clips.
        """
        first = {
            name: self.theta[f"{NETWORK}/initial_{name}"] for name in ("hidden", "cell", "from_mlp")
        }

        def init_one(parameter: np.ndarray) -> dict[str, np.ndarray]:
            zeros = np.zeros((len(self.decays), *parameter.shape), np.float32)
            return {"m": zeros, "v": zeros, **first}

        return {
            "step": 0,
            "tensors": common.init_each(init_one, params),
            "from_lstm": self.theta[f"{NETWORK}/initial_from_lstm"],
            "train": no_loss(),
            "validation": no_loss(),
            "scale": np.float32(1 - CLIP_DECAY),
        }

    def update(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        value: Any = None,
        validation_value: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What to add to the parameters, and the next state.

        ``value`` is the training loss; ``validation_value`` one on other data, if there is one: it
        is read from the next update on.

        Raises:
          ValueError: there is no ``value``.
        """
        loss = common.required_loss(value)
        train, validation = with_loss(state["train"], loss, TRAIN_DECAY), state["validation"]
        seen = corrected(validation, "mean", VALIDATION_DECAY)
        losses = [standardized(train, x, TRAIN_DECAY) for x in (loss, seen)]
        after = {**state, "step": state["step"] + 1, "train": train}
        if validation_value is not None:
            validation_loss = np.float32(validation_value)
            after["validation"] = with_loss(validation, validation_loss, VALIDATION_DECAY)
        if not state["tensors"]:
            return common.update_each(self.update_one, gradients, {}, params)[0], after
        gradients, after["scale"] = clipped(
            {name: np.asarray(gradients[name], np.float32) for name in state["tensors"]},
            state["scale"],
            state["step"],
        )
        tensors, after["from_lstm"] = self.after_lstms(gradients, state, params, losses)
        updates, after["tensors"] = common.update_each(self.update_one, gradients, tensors, params)
        return updates, after

    def after_lstms(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        losses: Sequence[Any],
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """The states of the tensors after their LSTMs, with ``shared``: the inputs of the MLP that
        all entries of the tensor share; and what goes to all LSTMs, [from_lstm].
        """
        tensors, to_all = {}, []
        time = sine_of_steps(state["step"], self.constants["timescales"])
        for name, before in state["tensors"].items():
            gradient, parameter = gradients[name], np.asarray(params[name], np.float32)
            m = common.running_mean(before["m"], gradient, self.decays)
            v = common.running_mean(before["v"], np.square(gradient), self.decays)
            own = tensor_features(gradient, parameter, m, v, losses)
            x = np.concatenate([state["from_lstm"], before["from_mlp"], own])
            hidden, cell = common.lstm(
                self.theta, f"{NETWORK}/lstm", x, before["hidden"], before["cell"]
            )
            to_all.append(common.linear(self.theta, f"{NETWORK}/to_lstm", hidden))
            to_mlp = common.linear(self.theta, f"{NETWORK}/to_mlp", hidden)
            sizes = tensor_sizes(parameter, len(state["tensors"]))
            shared = np.concatenate([time, sizes, to_mlp])
            tensors[name] = {"m": m, "v": v, "hidden": hidden, "cell": cell, "shared": shared}
        return tensors, np.mean(to_all, axis=0)

    def update_one(
        self, gradient: np.ndarray, parameter: np.ndarray, state: common.Tensors
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The update of one tensor, [n], and its next state."""
        a, b = self.constants["step_multiplier"], self.constants["exponent_multiplier"]
        root = 1 / np.sqrt(state["v"] + np.float32(1e-6))
        logarithm = np.log(np.abs(parameter) + np.float32(1e-8))
        features = [gradient[None], parameter[None], logarithm[None]]
        features += [state["m"], state["v"], state["m"] * root, root]
        scaled = common.over_rms(common.columns(np.concatenate(features), parameter.shape), EPSILON)
        outputs = common.mlp(self.theta, "mlp/mlp/~", common.beside(scaled, state["shared"]))
        d, mu, z = outputs[:, 0], outputs[:, 1], outputs[:, 2:]
        kept = {name: state[name] for name in ("m", "v", "hidden", "cell")}
        return -a * d * np.exp(b * mu), kept | {"from_mlp": z.mean(axis=0)}


def clipped(
    gradients: common.Tensors, scale: np.float32, step: int
) -> tuple[dict[str, np.ndarray], np.float32]:
    """The gradients of a model, clipped by their running mean, and that mean with this step's."""
    bound = CLIP_MULTIPLE * scale / np.float32(1 - CLIP_DECAY ** (step + 1))
    within = {name: np.clip(g, -bound, bound) for name, g in gradients.items()}
    square = np.mean([np.mean(np.square(g)) for g in within.values()])
    rms = np.sqrt(square + np.float32(1e-8))
    return within, np.float32(CLIP_DECAY * scale + (1 - CLIP_DECAY) * rms)


def tensor_features(
    gradient: np.ndarray,
    parameter: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    losses: Sequence[Any],
) -> np.ndarray:
    """The inputs of the LSTM that come from outside the networks, [18]."""
    (mean_m, var_m), (mean_v, var_v) = common.mean_and_variance(m), common.mean_and_variance(v)
    mean_p, var_p = common.mean_and_variance(parameter)
    extents = [*parameter.shape, *[1] * SHAPE_AXES][:SHAPE_AXES]
    log = common.log_magnitude
    return np.array([
        log(norm(gradient)), 1 if parameter.ndim == 0 else -1,
        log(mean_m), np.sign(mean_m), log(mean_v), np.sign(mean_v),
        log(mean_p), np.sign(mean_p), log(norm(parameter)),
        *(np.log(extent) - 1 for extent in extents), *losses,
        log(var_m), log(var_v), log(var_p),
    ], np.float32)  # fmt: skip


def tensor_sizes(parameter: np.ndarray, tensors: int) -> np.ndarray:
    """Of the MLP: log of the number of tensors less 1, of the norm, and of the entries; [3]."""
    logarithms = np.log(tensors) - 1, np.log(norm(parameter) + 1e-8), np.log(parameter.size)
    return np.array(logarithms, np.float32)


def norm(values: np.ndarray) -> Any:
    """The Euclidean norm of all entries."""
    return np.sqrt(np.sum(np.square(values)))


def sine_of_steps(step: int, timescales: Sequence[float]) -> np.ndarray:
    """sin(t/(πτ)) for every timescale τ, [timescales]; t updates came before this one."""
    return np.sin(np.float32(step) / (np.asarray(timescales, np.float32) * np.float32(np.pi)))


def no_loss() -> dict[str, Any]:
    """M, S and the number of losses before the first."""
    return {"mean": np.float32(0), "variance": np.float32(0), "losses": 0}


def with_loss(before: Mapping[str, Any], loss: np.float32, decay: float) -> dict[str, Any]:
    """M and S with one more loss."""
    mean = decay * before["mean"] + (1 - decay) * loss
    variance = decay * before["variance"] + (1 - decay) * np.square(mean - loss)
    return {"mean": mean, "variance": variance, "losses": before["losses"] + 1}


def corrected(running: Mapping[str, Any], name: str, decay: float) -> Any:
    """M̂ or Ŝ; 0 before the first loss."""
    return running[name] / np.float32(max(1 - decay ** running["losses"], 1e-8))


def standardized(train: Mapping[str, Any], loss: Any, decay: float) -> Any:
    """A loss against the recent past of the training loss."""
    distance = loss - corrected(train, "mean", decay)
    deviation = np.sqrt(corrected(train, "variance", decay) + np.float32(1e-8))
    return np.clip(distance / deviation, -5, 5)
