"""A small network in PyTorch and in JAX, and how far an optimizer takes them apart."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import torch

from learned_opt import RULES, PortableOptimizer
from learned_opt.pytorch import (
    LearnedOptimizer,
)
from tasks.data.embedded import load_fashion_mnist_8x8

STEPS, BATCH = 100, 32


class Net(torch.nn.Module):
    """On images 4×4×4: a convolution, matrices (one of them square), biases and a scalar."""

    def __init__(self, channels=8, hidden=32):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, channels, 3)
        self.flat = torch.nn.Linear(4 * channels, hidden)
        self.head = torch.nn.Linear(hidden, 10)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        x = self.conv(images.permute(0, 3, 1, 2)).relu()
        x = x.permute(0, 2, 3, 1).flatten(1)  # as JAX has it
        return self.scale * self.head(self.flat(x).relu())


def loss_in_jax(params, images, labels):
    def biased(x, name):
        bias = params[f"{name}.bias"]
        return x + bias.reshape([1] * (x.ndim - 1) + [-1])

    x = jax.lax.conv_general_dilated(
        images, params["conv.weight"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(biased(x, "conv")).reshape(images.shape[0], -1)
    x = jax.nn.relu(biased(x @ params["flat.weight"], "flat"))
    logits = params["scale"] * biased(x @ params["head.weight"], "head")
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def to_jax(tensor):
    """[out, in, *kernel] → [*kernel, in, out]."""
    array = tensor.detach().numpy()
    return np.moveaxis(array, (1, 0), (-2, -1)).copy() if array.ndim >= 2 else array.copy()


def to_torch(array):
    """[*kernel, in, out] → [out, in, *kernel]."""
    array = np.asarray(array)
    return torch.tensor(np.moveaxis(array, (-2, -1), (1, 0)) if array.ndim >= 2 else array)


def named(model):
    return {name: to_jax(p) for name, p in model.named_parameters()}


def new_net(**widths):
    torch.manual_seed(0)
    return Net(**widths)


@lru_cache(maxsize=1)
def batches():
    """Of Fashion-MNIST, standardised: images, 8×8 pixels as 4×4 with 4 channels, and labels."""
    pixels, labels = load_fashion_mnist_8x8().train
    chosen = np.random.default_rng(0).integers(0, 5_000, (STEPS, BATCH))
    images = pixels[chosen].astype(np.float32).reshape(STEPS, BATCH, 4, 2, 4, 2)
    images = images.transpose(0, 1, 2, 4, 3, 5).reshape(STEPS, BATCH, 4, 4, 4)
    return (images - images.mean()) / images.std(), labels[chosen]


class Case(NamedTuple):
    rule: str
    constants: Mapping[str, Any]
    options: Mapping[str, Any] = MappingProxyType({})  # what PyTorch calls otherwise


BASE = {"channels": 4, "hidden": 8}
LEARNED = {"step_multiplier": 0.003, "exponent_multiplier": 0.2}
CELO2 = {"learning_rate": 3e-3, "weight_decay": 0.1}
CASES = {
    "mlp": Case("mlp", LEARNED),
    "adafactor_mlp": Case("adafactor_mlp", LEARNED),
    "mu_mlp": Case(
        "mu_mlp",
        {
            **LEARNED,
            "second_moment_decays": (0.9, 0.99, 0.999),
            "base_shapes": {n: list(p.shape) for n, p in named(new_net(**BASE)).items()},
        },
        {"base_shapes": new_net(**BASE)},
    ),
    "nominal_mlp": Case("nominal_mlp", {**LEARNED, "weight_decay": 0.1}),
    "normalized_mlp": Case("normalized_mlp", CELO2),
    "celo2": Case(
        "normalized_mlp",
        {**CELO2, "newton_schulz_steps": 5, "vectors": "adamw", "vector_rate": 0.5},
    ),
}


def portable(rule, seed=0, **constants):
    """A rule with a θ that goes down along the momenta, more or less; its decays are moved too.

    Where d is nearly 0 all over a tensor its direction is rounding: the rule of JAX then deviates
    from itself.
    """
    made = RULES[rule](**constants)
    theta = made.init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noise = [0.03 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    leaves = [0.2 * np.asarray(x) + np.asarray(n) for x, n in zip(leaves, noise, strict=True)]
    theta = tree.unflatten(leaves)
    layers = [theta[f"mlp/~/linear_{i}"]["w"] for i in range(len(made.constants["hidden"]) + 1)]
    momenta = [i for i, name in enumerate(made.inputs) if name.startswith("m[")]
    layers[0][momenta, 0] += 0.5
    layers[0][momenta, 1] -= 0.5
    for layer in layers[1:-1]:
        layer[[0, 1], [0, 1]] += 1
    layers[-1][[0, 1], [0, 0]] += (1, -1)
    return PortableOptimizer(made, theta, {})


class Trajectory(NamedTuple):
    """Of a training in JAX: losses [steps]; by name, [steps, *shape], the gradients and what the
    parameters are after the step.
    """

    saved: PortableOptimizer
    losses: np.ndarray
    gradients: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


loss_and_gradients = jax.jit(jax.value_and_grad(loss_in_jax))


@lru_cache
def trajectory(case):
    rule, constants, _ = CASES[case]
    saved = portable(rule, **constants)
    tx = saved.build()

    def update(gradients, state, params):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    # To optimise it takes longer to compile than it gains.
    update = jax.jit(update, compiler_options={"xla_backend_optimization_level": 0})

    params, rows = named(new_net()), []
    state = tx.init(params)
    for images, labels in zip(*batches(), strict=True):
        loss, gradients = loss_and_gradients(params, images, labels)
        params, state = update(gradients, state, params)
        rows.append(jax.device_get((loss, gradients, params)))
    return Trajectory(saved, *jax.tree.map(lambda *x: np.stack(x), *rows))


def in_torch(model, case, saved):
    """The optimizer of a case for a model in PyTorch."""
    _, constants, options = CASES[case]
    if "base_shapes" in constants:
        made = saved.optimizer
        saved = saved._replace(
            optimizer=made._replace(constants={**made.constants, "base_shapes": None})
        )
    return LearnedOptimizer(model.named_parameters(), saved, **options)


def deviation(case, steps=STEPS):
    """The largest of |Δ| ÷ (10⁻⁵·max|p| + 10⁻⁷) over tensors and steps, on JAX's gradients."""
    saved, _, gradients, after = trajectory(case)
    model, worst = new_net(), 0.0
    tx = in_torch(model, case, saved)
    for t in range(steps):
        for name, p in model.named_parameters():
            p.grad = to_torch(gradients[name][t])
        tx.step()
        for name, p in model.named_parameters():
            expected = after[name][t]
            difference = np.abs(to_jax(p) - expected).max()
            worst = max(worst, difference / (1e-5 * np.abs(expected).max() + 1e-7))
    return worst


def follow(saved, shape, *, steps=6, seed=3, **options):
    """Parameters of PyTorch and of JAX after the same gradients, in the layout of PyTorch."""
    tx = saved.build()
    keys = jax.random.split(jax.random.key(seed), steps + 1)
    start, *gradients = (np.asarray(jax.random.normal(key, shape)) for key in keys)
    layout = options.get("layout", "haiku")
    given = to_torch if layout == "haiku" else torch.tensor
    p = torch.nn.Parameter(given(start))
    ours, update = LearnedOptimizer([p], saved, **options), jax.jit(tx.update)
    params, state = jnp.asarray(start), tx.init(start)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = params + updates
        p.grad = given(gradient)
        ours.step()
    return p.detach(), given(np.asarray(params))


def some_tensors(dtype=torch.float32, seed=0):
    """A model of several ranks, and gradients by step."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (4,), (), (2, 3, 2, 2), (0, 3)]
    tensors = [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]
    return tensors, lambda: [torch.randn(s, generator=generator).to(dtype) for s in shapes]


def train(tx, tensors, gradients, steps):
    for _ in range(steps):
        for p, g in zip(tensors, gradients(), strict=True):
            p.grad = g
        tx.step()


def equal(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def every_rule(**constants):
    for rule in ("mlp", "adafactor_mlp", "mu_mlp", "nominal_mlp", "normalized_mlp"):
        rate = {"learning_rate": 0.1} if rule == "normalized_mlp" else {}
        yield portable(rule, **rate, **constants)
