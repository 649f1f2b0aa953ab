"""HyperbolicSecant is the log-cosh loss normalised, right in its tails."""

import keras
import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from oracles import ExactHyperbolicSecant, standard
from support import assert_close, float64, gradients, numpy, sample

from tfp_vae.distributions.hyperbolic_secant import HyperbolicSecant
from tfp_vae.substrate import tfp_seed

RESIDUALS = np.array(
    [0.0, 1e-6, 1e-3, 0.4, 0.999, 1.0, 1.5, 3.0, 7.0, 19.0, 21.0, 300.0, 1e6]
)
# Relative to the value, or to 1 where it is smaller: a log density of about 0
# is the difference of numbers of order 1.
TOLERANCES = [("float32", 1e-5), ("float64", 1e-13)]


EXACT = standard(ExactHyperbolicSecant, 0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_log_density_and_tails_agree_with_mpmath(dtype, tolerance):
    r = np.concatenate([-RESIDUALS[::-1], RESIDUALS]).astype(dtype)
    below = [EXACT.log_cdf(v) for v in r]
    above = [EXACT.log_survival_function(v) for v in r]
    with float64():
        secant = HyperbolicSecant(np.dtype(dtype).type(0))
        assert_close(
            secant.log_prob(r), [EXACT.log_prob(v) for v in r], tolerance
        )
        assert_close(secant.log_cdf(r), below, tolerance)
        assert_close(secant.log_survival_function(r), above, tolerance)
        # These are exact relative to themselves, within the range of the dtype.
        near = np.abs(r) < 80
        for method, logs in (("cdf", below), ("survival_function", above)):
            np.testing.assert_allclose(
                numpy(getattr(secant, method)(r[near])),
                [float(mpmath.exp(v)) for v in np.array(logs)[near]],
                rtol=tolerance,
            )


def test_agrees_with_scipy():
    y = np.linspace(-30, 30, 41, dtype=np.float32)
    ours = HyperbolicSecant(np.float32(1.5), 2.5)
    theirs = scipy.stats.hypsecant(1.5, 2.5)
    np.testing.assert_allclose(numpy(ours.prob(y)), theirs.pdf(y), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.cdf(y)), theirs.cdf(y), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.variance()), theirs.var(), rtol=1e-6)
    np.testing.assert_allclose(numpy(ours.stddev()), theirs.std(), rtol=1e-6)
    assert float(ours.mean()) == float(ours.mode()) == 1.5


def test_entropy_agrees_with_quadrature():
    exact = EXACT.entropy
    for scale in (1e-3, 1.0, 40.0):
        np.testing.assert_allclose(
            numpy(HyperbolicSecant(0.0, scale).entropy()),
            float(exact) + np.log(scale),
            rtol=1e-6,
        )
    with float64():
        found = float(HyperbolicSecant(np.float64(0.0)).entropy())
    assert found == pytest.approx(float(exact), rel=1e-14)


@given(loc=st.floats(-50, 50), scale=st.floats(1e-2, 1e2))
def test_is_the_log_cosh_loss(loc, scale):
    """Summed over the event, in units of the scale, plus log(pi scale)."""
    y = np.linspace(-100.0, 100.0, 9)
    with float64():
        secant = HyperbolicSecant(np.float64(loc), scale)
        found = -numpy(secant.log_prob(y)).sum()
        loss = keras.losses.LogCosh(reduction="sum", dtype="float64")
        r = ((y - loc) / scale)[:, None]
        expected = float(loss(np.zeros_like(r), r))
    assert found - 9 * np.log(np.pi * scale) == pytest.approx(
        expected, rel=1e-7
    )


@given(loc=st.floats(-100, 100), scale=st.floats(1e-3, 1e3))
def test_density_integrates_to_one(loc, scale):
    """By Gauss-Legendre in float64."""
    node, weight = np.polynomial.legendre.leggauss(40)
    cuts = np.linspace(-40, 40, 33)
    middle, half = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)[:, None] / 2
    r = middle[:, None] + half * node
    with float64():
        secant = HyperbolicSecant(np.float64(loc), scale)
        density = numpy(secant.prob(loc + scale * r))
    assert (density * weight * half).sum() * scale == pytest.approx(
        1.0, abs=1e-12
    )


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_quantile_agrees_with_mpmath(dtype, tolerance):
    p = [1e-37, 1e-30, 1e-10, 1e-4, 0.1, 0.2499, 0.25, 0.251, 0.3, 0.49]
    p += [0.499999, 0.5, 0.500001, 0.6, 0.75, 0.9, 0.9999]
    p = np.array(p).astype(dtype)
    exact = [
        float(mpmath.log(mpmath.tan(mpmath.pi * mpmath.mpf(float(v)) / 2)))
        for v in p
    ]
    with float64():
        secant = HyperbolicSecant(np.dtype(dtype).type(0))
        found = numpy(secant.quantile(p))
        ends = numpy(secant.quantile(np.array([0, 1], dtype)))
    # Relative to itself, also about the median.
    np.testing.assert_allclose(found, exact, rtol=tolerance, atol=1e-49)
    assert ends.tolist() == [-np.inf, np.inf]


def test_samples_follow_the_cdf():
    draws = sample(HyperbolicSecant(np.float32(0.3), 2.0), 20_000)
    # False alarm: 1e-6. A scale that is 5 % off gives p < 1e-8.
    cdf = scipy.stats.hypsecant(0.3, 2.0).cdf
    assert scipy.stats.kstest(draws, cdf).pvalue > 1e-6


@pytest.mark.parametrize("y", [0.0, -1.0, 1.0, 20.0, -1e6, 1e30])
def test_gradients_are_finite_everywhere(y):
    arguments = [np.float32(v) for v in (y, 0.0, 1.0)]
    methods = ("log_prob", "log_cdf", "log_survival_function", "cdf")
    for method in methods:
        found = gradients(
            lambda y, *p, method=method: getattr(HyperbolicSecant(*p), method)(
                y
            ),
            *arguments,
        )
        assert np.isfinite(found).all(), (method, found)
    for p in (1e-37, 0.1, 0.25, 0.5, 0.75, 1 - 1e-7):
        found = gradients(
            lambda p, *q: HyperbolicSecant(*q).quantile(p),
            np.float32(p),
            *arguments[1:],
        )
        assert np.isfinite(found).all(), (p, found)


def test_gradient_of_the_log_density_is_tanh():
    r = np.array([0.0, 1e-30, -1e-6, 1e-3, 0.5, 1.0, 3.0, -20.0], np.float32)
    (found,) = gradients(lambda y: HyperbolicSecant(0.0).log_prob(y), r)
    np.testing.assert_allclose(found, -np.tanh(r.astype(np.float64)), rtol=1e-6)


def test_gradients_equal_finite_differences():
    random = np.random.default_rng(0)
    y, loc = random.uniform(-20, 20, 200), random.uniform(-3, 3, 200)
    y[:20] = loc[:20]
    arguments = [y, loc, random.uniform(0.2, 5, 200)]
    h = 1e-5
    with float64():
        for method in ("log_prob", "log_cdf", "log_survival_function", "cdf"):

            def function(y, *p, method=method):
                return getattr(HyperbolicSecant(*p), method)(y)

            for i, value in enumerate(gradients(function, *arguments)):
                up, down = list(arguments), list(arguments)
                up[i], down[i] = up[i] + h, down[i] - h
                difference = numpy(function(*up)) - numpy(function(*down))
                # Rounding: 1e-16 |f| / h; curvature: h**2 f''' / 6.
                np.testing.assert_allclose(
                    value, difference / (2 * h), rtol=1e-6, atol=1e-6
                )


def test_sample_gradients_are_those_of_the_quantile():
    """dy/dtheta = -(dF/dtheta) / f, for any way of drawing."""
    parameters = [np.float64(v) for v in (0.3, 2.0)]
    with float64():

        def draw(*p):
            return HyperbolicSecant(*p).sample(200, seed=tfp_seed(3))

        y = draw(*parameters)
        weight = -1.0 / numpy(HyperbolicSecant(*parameters).prob(y))
        implicit = gradients(
            lambda *p: weight * HyperbolicSecant(*p).cdf(y), *parameters
        )
        pathwise = gradients(draw, *parameters)
    np.testing.assert_allclose(pathwise, implicit, rtol=1e-9, atol=1e-9)
