"""Loops as other libraries write them: `learned_opt.load` where `optax.adam` stood, no more.

None of these loops tells the optimizer the loss.
"""

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import learned_opt
from tasks.data.embedded import load_fashion_mnist_8x8

STEPS = 100


def batches():
    """Of Fashion-MNIST, standardised: images [64, 64] and labels [64] of every step."""
    pixels, labels = load_fashion_mnist_8x8().train
    chosen = np.random.default_rng(0).integers(0, 5_000, (STEPS, 64))
    images = pixels[chosen].reshape(STEPS, 64, -1).astype(np.float32)
    images = (images - images.mean()) / images.std()
    return zip(images, labels[chosen].astype(np.int32), strict=True)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def haiku_loop(optimizer):
    """As in Haiku's examples: a transformed network, and a jitted update of (params, state)."""

    def network(images):
        return hk.nets.MLP([32, 10])(images)

    network = hk.without_apply_rng(hk.transform(network))

    def loss_of(params, images, labels):
        return cross_entropy(network.apply(params, images), labels)

    @jax.jit
    def update(params, opt_state, images, labels):
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = network.init(jax.random.key(0), jnp.zeros((1, 64)))
    opt_state = optimizer.init(params)
    losses = []
    for images, labels in batches():
        params, opt_state, loss = update(params, opt_state, images, labels)
        losses.append(loss)
    return losses


def flax_loop(optimizer):
    """As in Flax's examples with Linen: a `TrainState` and `apply_gradients`."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(10)(nn.relu(nn.Dense(32)(images)))

    network = Network()
    params = network.init(jax.random.key(0), jnp.zeros((1, 64)))["params"]
    state = TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)

    @jax.jit
    def train_step(state, images, labels):
        def loss_of(params):
            return cross_entropy(state.apply_fn({"params": params}, images), labels)

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=grads), loss

    losses = []
    for images, labels in batches():
        state, loss = train_step(state, images, labels)
        losses.append(loss)
    return losses


def nnx_loop(optimizer):
    """As in Flax's examples with NNX: a mutable model and an `nnx.Optimizer`."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

        def __call__(self, images):
            return self.second(nnx.relu(self.first(images)))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, images, labels):
        def loss_of(model):
            return cross_entropy(model(images), labels)

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    return [train_step(model, optimizer, images, labels) for images, labels in batches()]


def bare_loop(optimizer):
    """JAX alone: parameters are a list of pairs, and all of training is one scan."""
    keys = jax.random.split(jax.random.key(0))
    params = [
        (jax.random.normal(key, (inputs, outputs)) * inputs**-0.5, jnp.zeros(outputs))
        for key, inputs, outputs in zip(keys, (64, 32), (32, 10), strict=True)
    ]

    def loss_of(params, images, labels):
        (first, bias), (second, last) = params
        hidden = jnp.maximum(images @ first + bias[None], 0)
        return cross_entropy(hidden @ second + last[None], labels)

    def step(carry, batch):
        params, opt_state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, *batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    images, labels = (np.stack(x) for x in zip(*batches(), strict=True))
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, (images, labels)))
    return run((params, optimizer.init(params)))[1]


LOOPS = {"haiku": haiku_loop, "flax": flax_loop, "nnx": nnx_loop, "bare": bare_loop}


@pytest.mark.parametrize("loop", LOOPS)
def test_the_learned_optimizer_trains_where_adam_did(loop):
    adam = np.asarray(LOOPS[loop](optax.adam(1e-3)))
    learned = np.asarray(LOOPS[loop](learned_opt.load("fashion_mlp")))
    assert np.isfinite(learned).all()
    assert learned[-20:].mean() < 0.8  # from log 10; a tuned Adam reaches 0.7
    assert learned[-20:].mean() < adam[-20:].mean()  # whose rate nobody tuned
