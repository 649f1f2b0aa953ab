"""Huber is a normalised density, right in its tails, limits and gradients."""

import functools

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import ExactHuber, standard
from support import assert_close, float64, gradients, numpy, sample

from tfp_vae.distributions import Huber
from tfp_vae.substrate import jit, tfd, tfp_seed

DELTAS = [1e-4, 1e-2, 0.3, 1.0, 1.345, 2.9, 3.1, 10.0, 100.0, 1e4]
RESIDUALS = np.array(
    [0.0, 1e-3, 0.4, 0.999, 1.0, 1.5, 3.0, 7.0, 20.0, 300.0, 1e4, 1e6]
)
# Relative to the value, or to 1 where it is smaller: a log density of about 0
# is the difference of numbers of order 1.
FLOAT32 = 1e-5
FLOAT64 = 1e-12


@functools.cache
def method(name):
    """A method of the distribution as a compiled function of everything."""
    return jit(lambda y, *p: getattr(Huber(*p), name)(y))


@pytest.mark.versions
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", FLOAT32), ("float64", FLOAT64)]
)
def test_log_density_and_tails_agree_with_mpmath(delta, dtype, tolerance):
    exact = standard(ExactHuber, float(np.dtype(dtype).type(delta)))
    r = np.concatenate([-RESIDUALS[::-1], RESIDUALS]).astype(dtype)
    with float64():
        huber = Huber(
            np.dtype(dtype).type(0), delta=np.dtype(dtype).type(delta)
        )
        assert_close(
            huber.log_prob(r), [exact.log_prob(v) for v in r], tolerance
        )
        assert_close(huber.log_cdf(r), [exact.log_cdf(v) for v in r], tolerance)
        assert_close(
            huber.log_survival_function(r),
            [exact.log_survival_function(v) for v in r],
            tolerance,
        )
        assert_close(
            huber.cdf(r), [mpmath.exp(exact.log_cdf(v)) for v in r], tolerance
        )


@pytest.mark.parametrize("delta", DELTAS)
def test_moments_and_entropy_agree_with_mpmath(delta):
    exact = standard(ExactHuber, float(np.float32(delta)))
    huber = Huber(0.5, 1.0, np.float32(delta))
    variance = float(exact.variance)
    np.testing.assert_allclose(numpy(huber.variance()), variance, rtol=1e-5)
    np.testing.assert_allclose(
        numpy(huber.stddev()), np.sqrt(variance), rtol=1e-5
    )
    assert float(huber.mean()) == float(huber.mode()) == 0.5
    np.testing.assert_allclose(
        numpy(huber.entropy()),
        float(exact.entropy),
        rtol=1e-5,
        atol=1e-6,
    )


@given(
    delta=st.floats(1e-3, 1e3),
    scale=st.floats(1e-3, 1e3),
    loc=st.floats(-100, 100),
)
def test_density_integrates_to_one(delta, scale, loc):
    """By Gauss-Legendre in float64 on panels cut at the thresholds."""
    node, weight = np.polynomial.legendre.leggauss(60)
    reach = min(delta, 40.0)
    cuts = np.concatenate(
        [np.linspace(0, reach, 9), reach + np.array([1, 5, 15, 40]) / delta]
    )
    if delta > 40:
        cuts = cuts[:9]
    centre, half = (cuts[1:] + cuts[:-1]) / 2, (cuts[1:] - cuts[:-1]) / 2
    r = (centre[:, None] + half[:, None] * node).ravel()
    with float64():
        y = loc + scale * np.stack([-r, r])
        parameters = map(np.float64, (loc, scale, delta))
        mass = numpy(method("prob")(y, *parameters)).sum(0)
    total = (mass.reshape(len(half), -1) * weight).sum(1) @ half * scale
    assert total == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("delta", [*DELTAS, np.inf])
def test_quantile_inverts_cdf(delta):
    p = np.array([1e-30, 1e-10, 1e-4, 0.1, 0.3, 0.49, 0.5, 0.6, 0.9, 0.9999])
    p = p.astype(np.float32)
    huber = Huber(np.float32(0.0), 1.0, np.float32(delta))
    y = numpy(huber.quantile(p)).astype(np.float64)
    with float64():
        wide = Huber(np.float64(0.0), 1.0, float(np.float32(delta)))
        back = numpy(wide.log_cdf(y))
        slope = numpy(wide.log_prob(y)) - back
    # One rounding of y moves log cdf by |y| times the hazard.
    slack = 3e-6 + np.abs(y) * np.exp(slope) * 1e-6
    assert (np.abs(back - np.log(p.astype(np.float64))) <= slack).all()
    assert numpy(huber.quantile(np.float32(0.0))) == -np.inf
    assert numpy(huber.quantile(np.float32(1.0))) == np.inf


@pytest.mark.parametrize("delta", [1e-3, 0.3, 1.345, 4.0, np.inf])
def test_samples_follow_the_cdf(delta):
    huber = Huber(np.float32(0.3), 2.0, np.float32(delta))
    draws = sample(huber, 20_000)
    with float64():
        wide = Huber(np.float64(0.3), 2.0, float(delta))
        u = numpy(wide.cdf(draws.astype(np.float64)))
    # False alarm: 1e-6 per case. A scale that is 5 % off gives p < 1e-8.
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6


def test_infinite_delta_is_the_normal_with_all_gradients():
    y = np.array([-1e15, -30.0, -1.0, 0.0, 2.0, 1e4], np.float32)
    loc, scale = np.float32(0.5), np.float32(2.0)
    huber, normal = Huber(loc, scale, np.inf), tfd.Normal(loc, scale)
    for method in ("log_prob", "log_cdf", "cdf", "survival_function"):
        np.testing.assert_allclose(
            numpy(getattr(huber, method)(y)),
            numpy(getattr(normal, method)(y)),
            rtol=1e-5,
        )
    assert float(huber.entropy()) == pytest.approx(float(normal.entropy()))
    ours = gradients(
        lambda y, m, s: Huber(m, s, np.inf).log_prob(y), y, loc, scale
    )
    theirs = gradients(
        lambda y, m, s: tfd.Normal(m, s).log_prob(y), y, loc, scale
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@given(b=st.floats(0.01, 100.0))
def test_small_delta_is_the_laplace(b):
    """At delta = 1e-6 the centre holds a share of 1e-12."""
    y = np.array([-50.0, -1.0, 0.1, 3.0], np.float32) * b
    huber = Huber(np.float32(0.0), np.float32(1e-6 * b), np.float32(1e-6))
    np.testing.assert_allclose(
        numpy(huber.log_prob(y)),
        scipy.stats.laplace.logpdf(y, scale=b),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("delta", [1e-30, 1e-4, 1.0, 1.345, 1e4, np.inf])
@pytest.mark.parametrize("y", [0.0, 1.0, -1.345, 1e6, 1e30])
def test_gradients_are_finite_everywhere(delta, y):
    if delta == np.inf and y == 1e30:
        pytest.skip("the normal log density itself is -inf in float32 there")
    arguments = [np.float32(v) for v in (y, 0.0, 1.0, delta)]
    for method in ("log_prob", "log_cdf", "log_survival_function", "cdf"):
        found = gradients(
            lambda y, *p, method=method: getattr(Huber(*p), method)(y),
            *arguments,
        )
        assert np.isfinite(found).all(), (method, found)


@given(
    y=st.floats(-20, 20),
    loc=st.floats(-3, 3),
    scale=st.floats(0.2, 5),
    delta=st.floats(0.05, 8),
)
# The seams of its formulas.
@example(y=0.0, loc=0.0, scale=1.0, delta=1.0)
@example(y=0.5, loc=0.0, scale=1.0, delta=4.0)
@example(y=-1.0, loc=0.0, scale=1.0, delta=1.0)
def test_gradients_equal_finite_differences(y, loc, scale, delta):
    arguments = [np.float64(v) for v in (y, loc, scale, delta)]
    h = 1e-5
    # In each row one of the four inputs moves up, then down.
    moved = np.stack(arguments) + h * np.stack([np.eye(4), -np.eye(4)])
    with float64():
        for name in ("log_prob", "log_cdf", "log_survival_function"):
            function = method(name)
            up, down = numpy(function(*np.moveaxis(moved, -1, 0)))
            # Rounding: 1e-16 |f| / h; curvature: h**2 f''' / 6, and h f''
            # where the stencil straddles the threshold.
            assert gradients(function, *arguments) == pytest.approx(
                (up - down) / (2 * h), rel=1e-4, abs=1e-3
            )


def test_sample_gradients_are_those_of_the_quantile():
    """dy/dtheta = -(dF/dtheta) / f, for any way of drawing."""
    parameters = [np.float64(v) for v in (0.3, 2.0, 0.8)]
    with float64():

        def draw(*p):
            return Huber(*p).sample(500, seed=tfp_seed(3))

        y = draw(*parameters)
        weight = -1.0 / numpy(Huber(*parameters).prob(y))
        implicit = gradients(lambda *p: weight * Huber(*p).cdf(y), *parameters)
        pathwise = gradients(draw, *parameters)
    np.testing.assert_allclose(pathwise, implicit, rtol=1e-6, atol=1e-6)
