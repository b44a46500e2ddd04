"""Figures: the same colour for an estimator everywhere, and divergence in plain sight."""

import numpy as np

from meta_train.estimators import ESTIMATORS
from meta_train.reproduce.experiment import LABELS, Curve, Panel, Surface
from meta_train.reproduce.figures import COLOURS, draw, make_figure

X = np.arange(20.0)


def axes_of(*curves, **settings):
    return make_figure([Panel("title", "x", "y", curves, **settings)]).axes[0]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    """Labelled lines only."""
    return [line for line in axes.lines if not line.get_label().startswith("_")]


def test_every_estimator_has_a_label_and_a_colour_of_its_own():
    assert set(LABELS) == set(COLOURS) == set(ESTIMATORS)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_an_estimator_keeps_its_colour_in_any_company():
    y = np.ones((1, 20))
    for curves in (["PES"], ["RTRL", "other", "PES, W=10", "PES+A"]):
        drawn = {
            line.get_label(): line for line in lines(axes_of(*(Curve(c, X, y) for c in curves)))
        }
        for label, line in drawn.items():
            if label.startswith("PES,") or label == "PES":
                assert line.get_color() == COLOURS["pes"]
        if "PES+A" in drawn:
            assert drawn["PES+A"].get_color() == COLOURS["pes_analytic"]
            assert drawn["other"].get_color() not in COLOURS.values()


def test_curves_of_one_estimator_differ_in_the_line_unless_they_share_the_label():
    y = np.ones((1, 20))
    axes = axes_of(Curve("PES, a", X, y), Curve("PES, b", X, y), Curve("PES, b", X, y + 1))
    styles = [line.get_linestyle() for line in lines(axes)]
    assert styles[0] != styles[1] == styles[2]
    assert legend(axes) == ["PES, a", "PES, b"]


def test_median_and_range():
    y = np.array([np.full(20, value) for value in (1.0, 2.0, 6.0)])
    axes = axes_of(Curve("PES", X, y))
    np.testing.assert_array_equal(lines(axes)[0].get_ydata(), 2)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1, 6)


def test_divergence_is_said_marked_and_never_averaged_away():
    y = np.ones((3, 20))
    y[0, 5:], y[1, 8:] = np.nan, np.inf
    axes = axes_of(Curve("PES", X, y))
    assert legend(axes) == ["PES (2 of 3 diverged)"]
    assert lines(axes)[0].get_xdata().max() == 7  # the median diverges with the second run
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert sorted(float(cross.get_xdata()[0]) for cross in crosses) == [4, 7]


def test_nothing_finite_draws_all_the_same():
    nothing = np.full((2, 20), np.nan)
    surface = Surface(X, X, np.full((20, 20), 1.0))
    png = draw(
        [
            Panel("all", "x", "y", [Curve("PES", X, nothing)], y_scale="log"),
            Panel("path", "x", "y", [Curve("PES", nothing, nothing)], surface=surface),
            Panel("empty", "x", "y", []),
            Panel("mark", "x", "y", [Curve("truth", np.ones(1), np.ones(1), marks=True)]),
        ]
    )
    assert png.startswith(b"\x89PNG")


def test_zero_is_at_the_foot_of_a_logarithmic_axis():
    y = np.array([[1.0, 1e-3, 0.0, -1.0]])
    axes = axes_of(Curve("PES", X[:4], y), y_scale="log")
    np.testing.assert_array_equal(lines(axes)[0].get_ydata(), [1, 1e-3, 1e-3, 1e-3])
    axes = axes_of(Curve("PES", X[:4], y), y_scale="log", y_limits=(1e-6, None))
    assert axes.get_ylim()[0] == lines(axes)[0].get_ydata()[-1] == 1e-6


def test_paths_over_a_surface_keep_away_from_holes():
    z = np.add.outer(X, X)
    z[0, 0] = np.nan
    ways = np.linspace(0, 19, 20)[None] * np.ones((2, 1))
    ways[1, 10:] = np.inf
    axes = axes_of(Curve("NRES", ways, ways), surface=Surface(X, X, z))
    assert legend(axes) == ["NRES (1 of 2 diverged)"]
    assert [line.get_marker() for line in axes.lines].count("x") == 1
    assert draw([Panel("", "", "", [Curve("NRES", ways, ways)], surface=Surface(X, X, z))])
