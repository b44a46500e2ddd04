"""The nominal operations are those that one counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from learned_opt import RULES
from meta_train.benchmark.floor import inner_step_flops, multiply_adds
from tasks import get_family


def count(function, *arguments):
    return multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_an_inner_step_counts_the_rule_on_every_parameter_and_three_passes_of_the_model():
    forward = 64 * 32 + 32 * 10
    for batch in (64, 128):
        family = get_family("fashion_mnist_8x8_mlp32", batch_size=batch)
        network = 39 * 32 + 32 * 32 + 32 * 2
        expected = 2 * (network * 2410 + 3 * batch * forward)
        assert inner_step_flops(family, RULES["adafactor_mlp_h32"]()) == expected
        # A rule without a per-parameter network leaves the model alone.
        assert inner_step_flops(family, RULES["hyper"]()) == 2 * 3 * batch * forward


def test_products_are_counted_within_what_calls_them():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    once = 3 * 5 * 7
    assert count(jnp.dot, a, b) == once
    assert count(jax.jit(jnp.dot), a, b) == once
    assert count(jax.vmap(jnp.dot, in_axes=(0, None)), jnp.ones((4, 3, 5)), b) == 4 * once
    looped = count(lambda a, b: jax.lax.scan(lambda c, _: (c, a @ b), 0.0, None, length=6)[1], a, b)
    assert looped == 6 * once
    assert count(jnp.add, a, a) == 0


def test_a_convolution_counts_its_kernel_at_every_place():
    def convolve(images, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (2, 2), "SAME", dimension_numbers=layout
        )

    images, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
    assert count(convolve, images, kernel) == 2 * 4 * 4 * 16 * 9 * 3


def test_a_batch_size_that_a_family_cannot_have_is_refused():
    with pytest.raises(ValueError, match="`batch_size`=0: must be at least 1"):
        get_family("fashion_mnist_8x8_mlp32", batch_size=0)
    with pytest.raises(ValueError, match="another minibatch, not 'quadratic32'"):
        get_family("quadratic32", batch_size=8)
