"""Classification, reconstruction, generation and representation of images."""

from functools import partial

from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.images.architectures import ModelName
from tasks.images.families import image_family
from tasks.images.names import listed_image_family
from tasks.images.sources import EMBEDDED
from tasks.images.variation import VARIED


def image_row(
    name: str, rate: float, steps: int, share: float, offline: bool = True, **how: int
) -> Row:
    """A task ``DATASET_RxR_MODEL`` of a set that is embedded or known."""
    make = partial(listed_image_family, name, **how)
    return Row(name, make, AdamTarget(rate, steps, share), offline)


def _offline(model: str, rate: float = 1e-2, steps: int = 40, share: float = 0.8) -> Row:
    return image_row(f"fashion_mnist_8x8_{model}", rate, steps, share)


def _online(name: str, rate: float = 3e-3, steps: int = 60, share: float = 0.9) -> Row:
    """Where the target is not measured it is one that the like of it on Fashion-MNIST has."""
    return image_row(name, rate, steps, share, offline=False)


# The first of an architecture is the one that fast tests take: small ones come first.
OFFLINE = (
    _offline("softmax"),
    _offline("mlp32"),
    _offline("mlp32_varied"),
    _offline("mlp64"),
    _offline("mlp32x32"),
    _offline("mlp32x32x32_tanh"),
    _offline("conv16x32"),
    _offline("autoencoder32x8x32"),
    _offline("mlp16"),
    _offline("mlp128"),
    _offline("mlp256"),
    _offline("mlp32_tanh"),
    _offline("mlp32x32_gelu"),
    _offline("mlp32x32_silu"),
    _offline("mlp32x32_elu"),
    _offline("mlp32x32_leaky"),
    _offline("mlp32x32_sigmoid"),
    _offline("mlp32x32_layernorm"),
    _offline("mlp32x32_batchnorm"),
    _offline("mlp64_dropout"),
    _offline("mlp32_squared"),
    _offline("mlp64x8x64"),
    _offline("mlp64x64x64x64"),
    _offline("mlp16x16x16x16x16x16_tanh"),
    _offline("conv8x16_layernorm"),
    _offline("conv8x16_batchnorm"),
    _offline("conv8x16_pooling"),
    _offline("conv16x32_gelu"),
    _offline("autoencoder64x4x64_tanh"),
    _offline("autoencoder32_sigmoid"),
    _offline("convautoencoder8x4_tanh"),
    _offline("convautoencoder16x8", share=0.5),
    _offline("resnet8"),
    _offline("resnet8x16", share=0.6),
    _offline("resnet8x16_layernorm"),
    _offline("vit16x1"),
    _offline("vit16x2", share=0.7),
    _offline("vit16x1x4_relu"),
    _offline("mixer16x1"),
    _offline("mixer16x2", share=0.6),
    _offline("moe4x16", share=0.5),
    _offline("moe4x16_sparse", share=0.5),
    _offline("moe8x8_tanh"),
    _offline("vae32x8", share=0.7),
    _offline("vae32x8_bernoulli", share=0.8),
    _offline("vae64x32x4_silu", share=0.8),
    _offline("mmd8x32", share=0.4),
    _offline("mmd4x32x32_tanh", share=0.5),
    _offline("contrastive32x16", steps=60, share=0.92),
    _offline("contrastive64x32x16_tanh", steps=60, share=0.92),
)

ONLINE = (
    _online("fashion_mnist_14x14_mlp32"),
    _online("fashion_mnist_14x14_conv8x16_pooling"),
    _online("fashion_mnist_14x14_resnet8x16"),
    _online("fashion_mnist_14x14_vit16x2"),
    _online("fashion_mnist_14x14_vae64x8"),
    _online("fashion_mnist_16x16_mlp64x64_gelu"),
    _online("fashion_mnist_16x16_mixer16x2"),
    _online("fashion_mnist_16x16_convautoencoder8x8"),
    _online("fashion_mnist_16x16_moe4x16_sparse"),
    _online("fashion_mnist_28x28_softmax"),
    _online("fashion_mnist_28x28_mlp32x32"),
    _online("fashion_mnist_28x28_conv16x32"),
    _online("fashion_mnist_28x28_autoencoder32x8x32"),
    _online("fashion_mnist_28x28_mmd8x32"),
    _online("fashion_mnist_28x28_contrastive32x16", share=0.97),
    *(
        _online(f"{digits}_{model}")
        for digits in ("mnist", "kmnist")
        for model in (
            "8x8_mlp32",
            "14x14_conv8x16",
            "14x14_vae32x8_bernoulli",
            "16x16_vit16x2",
            "28x28_mlp64x64",
            "28x28_resnet8x16",
        )
    ),
    _online("emnist_8x8_mlp64x64"),
    _online("emnist_14x14_conv16x32_batchnorm"),
    _online("emnist_28x28_mixer16x2"),
    *(
        _online(f"{coloured}_{model}", steps=100, share=0.97)
        for coloured in ("cifar10", "svhn_cropped")
        for model in (
            "8x8_mlp64x64",
            "16x16_conv16x32",
            "16x16_moe4x16",
            "32x32_resnet8x16",
            "32x32_vit32x2",
        )
    ),
    _online("cifar10_16x16_convautoencoder16x16"),
    _online("cifar10_8x8_vae64x16"),
    _online("cifar100_8x8_mlp64x64", steps=100, share=0.98),
    _online("cifar100_16x16_resnet16x32", steps=100, share=0.98),
    _online("cifar100_32x32_conv16x32x64_batchnorm", steps=100, share=0.98),
    _online("food101_16x16_mixer32x2", steps=100, share=0.99),
    _online("food101_32x32_autoencoder64x16x64", steps=100),
    _online("imagenet_resized_8x8_mlp64x64", steps=200, share=0.995),
    _online("imagenet_resized_16x16_resnet16x32", steps=200, share=0.995),
    _online("imagenet_resized_16x16_vit32x2", steps=200, share=0.995),
    _online("imagenet_resized_32x32_convautoencoder16x16"),
)

ROWS = (*OFFLINE, *ONLINE)


def _varied(name: str, widths: list[int], architecture: str) -> TaskFamily:
    model = ModelName(architecture, tuple(widths), VARIED)
    return image_family(name, EMBEDDED["fashion_mnist", 8], model)


def _family(
    name: str, summary: str, architecture: str, widths: list[list[int]], share: float = 0.85
) -> ParametricFamily:
    make = partial(_varied, architecture=architecture)
    shapes = tuple({"widths": each} for each in widths)
    return ParametricFamily(name, summary, shapes, make, AdamTarget(1e-2, 100, share))


FAMILIES = (
    _family(
        "fashion_mlps",
        "perceptrons of one to four layers; activation and initial scale vary",
        "mlp",
        [[width] * depth for depth in (1, 2, 3, 4) for width in (16, 32, 64, 128)],
        0.8,
    ),
    _family(
        "fashion_convs",
        "convolutions; activation, initial scale and a mixture of two losses vary",
        "conv",
        [[8], [16], [32], [8, 16], [16, 32], [8, 16, 32]],
        0.95,
    ),
    _family(
        "fashion_autoencoders",
        "autoencoders; activation, initial scale and noise on the images vary",
        "autoencoder",
        [[4], [8], [16], [32, 4, 32], [32, 8, 32], [64, 16, 64]],
    ),
    _family(
        "fashion_resnets",
        "residual networks; activation, initial scale and noise on the images vary",
        "resnet",
        [[4], [8], [16], [8, 8], [8, 16]],
    ),
    _family(
        "fashion_vits",
        "vision transformers; activation and initial scale vary",
        "vit",
        [[8, 1], [16, 1], [32, 1], [16, 1, 4], [16, 2]],
    ),
    _family(
        "fashion_mixers",
        "MLP-Mixers; activation, initial scale and noise on the images vary",
        "mixer",
        [[8, 1], [16, 1], [32, 1], [16, 1, 4], [16, 2]],
    ),
    _family(
        "fashion_vaes",
        "variational autoencoders; activation, initial scale and the weight of the KL term vary",
        "vae",
        [[16, 2], [32, 8], [64, 8], [64, 32, 8]],
        0.95,
    ),
)
