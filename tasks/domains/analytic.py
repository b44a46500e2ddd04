"""Analytic losses, each 1 at the start."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tasks.analytic import spectra
from tasks.analytic.factorisations import factorisation_family, phase_retrieval_family
from tasks.analytic.projections import log_sum_exp_family, separable_family, sparse_family
from tasks.analytic.surfaces import identity, surface_family
from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.domains.quadratics import quadratic_family

LARGE_NOISE = (0.03, 0.3)


def _row(
    name: str, family: Callable[..., TaskFamily], rate: float, share: float, *how: Any, **more: Any
) -> Row:
    return Row(name, partial(family, name, *how, **more), AdamTarget(rate, 40, share))


ROWS = (
    _row("quadratic32", quadratic_family, 1e-2, 0.8, 32),
    _row("quadratic_power_law", quadratic_family, 5e-2, 0.3, 64, spectra.power_law),
    _row("quadratic_two_clusters", quadratic_family, 5e-2, 0.2, 64, spectra.two_clusters),
    _row("quadratic_ill_conditioned", quadratic_family, 5e-2, 0.2, 64, spectra.ill_conditioned),
    _row("quadratic_low_rank", quadratic_family, 5e-2, 0.2, 64, spectra.low_rank),
    _row("quadratic_noisy", quadratic_family, 5e-2, 0.8, 64, noise=LARGE_NOISE),
    _row("rosenbrock16", surface_family, 2e-2, 0.3, "rosenbrock", 16, identity),
    _row("styblinski_tang16", surface_family, 5e-2, 0.2, "styblinski_tang", 16, identity),
    _row("rastrigin16", surface_family, 2e-2, 0.4, "rastrigin", 16, identity),
    _row("ackley16", surface_family, 2e-2, 0.9, "ackley", 16, identity),
    _row("himmelblau", surface_family, 5e-2, 0.4, "himmelblau", 2, identity),
    _row("beale", surface_family, 2e-2, 0.4, "beale", 2, identity),
    _row("log_sum_exp32", log_sum_exp_family, 5e-2, 0.6, 32),
    _row("separable_logistic32", separable_family, 5e-2, 0.3, 32),
    _row("sparse_regression64", sparse_family, 5e-2, 0.3, 64),
    _row("matrix_factorisation24x16", factorisation_family, 5e-2, 0.3, 24, 16, 3),
    _row("phase_retrieval16", phase_retrieval_family, 2e-2, 0.3, 16),
)


def _noisy_quadratics(name: str, dimension: int) -> TaskFamily:
    return quadratic_family(name, dimension, noise=LARGE_NOISE)


FAMILIES = (
    ParametricFamily(
        "quadratics",
        "random spectra, rotations and noise",
        tuple({"dimension": dimension} for dimension in (2, 8, 32, 128)),
        quadratic_family,
        AdamTarget(1e-1, 100, 0.8),
    ),
    ParametricFamily(
        "noisy_quadratics",
        "random spectra and rotations, gradients of large noise",
        tuple({"dimension": dimension} for dimension in (8, 32, 128)),
        _noisy_quadratics,
        AdamTarget(5e-2, 60, 0.8),
    ),
    ParametricFamily(
        "analytic_valleys",
        "surfaces of many minima or curved valleys; start, rotation and noise vary",
        (
            {"surface": "rosenbrock", "dimension": 8},
            {"surface": "rosenbrock", "dimension": 32},
            {"surface": "styblinski_tang", "dimension": 8},
            {"surface": "rastrigin", "dimension": 8},
        ),
        surface_family,
        AdamTarget(2e-2, 60, 0.5),
    ),
    ParametricFamily(
        "low_rank_factorisations",
        "matrices of low rank; factors, start and noise vary",
        (
            {"rows": 8, "columns": 8, "rank": 2},
            {"rows": 32, "columns": 16, "rank": 4},
            {"rows": 32, "columns": 32, "rank": 8},
        ),
        factorisation_family,
        AdamTarget(5e-2, 60, 0.5),
    ),
)
