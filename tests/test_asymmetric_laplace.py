"""AsymmetricLaplace is the pinball loss normalised, and its KL is exact."""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import ExactAsymmetricLaplace, number, standard
from support import BACKEND, assert_close, float64, gradients, numpy, sample

from tfp_vae.distributions.asymmetric_laplace import AsymmetricLaplace
from tfp_vae.substrate import jit, tfd, tfp_seed

LEVELS = [1e-6, 1e-3, 0.1, 0.5, 0.75, 0.999]
RESIDUALS = np.array(
    [0.0, 1e-6, 1e-3, 0.4, 0.7, 1.0, 3.0, 20.0, 300.0, 1e4, 1e6]
)
# Relative to the value, or to 1 where it is smaller: a log density of about 0
# is the difference of numbers of order 1.
TOLERANCES = [("float32", 1e-5), ("float64", 1e-13)]
# For divergences: absolute below a tenth.
KL_TOLERANCES = [
    ("float32", {"rtol": 1e-5, "atol": 1e-6}),
    ("float64", {"rtol": 1e-12, "atol": 1e-13}),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_log_density_and_tails_agree_with_mpmath(level, dtype, tolerance):
    kind = np.dtype(dtype).type
    exact = standard(ExactAsymmetricLaplace, float(kind(level)))
    r = np.concatenate([-RESIDUALS[::-1], RESIDUALS]).astype(dtype)
    lower = [exact.lower(number(v)) for v in r]
    upper = [exact.upper(number(v)) for v in r]
    with float64():
        laplace = AsymmetricLaplace(kind(0), quantile_level=kind(level))
        assert_close(
            laplace.log_prob(r), [exact.log_prob(v) for v in r], tolerance
        )
        for method, values in (
            ("cdf", lower),
            ("survival_function", upper),
        ):
            assert_close(
                getattr(laplace, f"log_{method}")(r),
                [mpmath.log(v) for v in values],
                tolerance,
            )
            # Also relative to themselves, within the range of the dtype.
            near = np.abs(r) <= 20
            np.testing.assert_allclose(
                numpy(getattr(laplace, method)(r[near])),
                [float(v) for v in np.array(values)[near]],
                rtol=tolerance,
            )


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_agrees_with_scipy(level):
    """SciPy's kappa and scale use the geometric mean of the rates."""
    root = np.sqrt(level * (1 - level))
    kappa = np.sqrt(level / (1 - level))
    theirs = scipy.stats.laplace_asymmetric(kappa, 1.5, 2.5 / root)
    ours = AsymmetricLaplace(np.float32(1.5), 2.5, level)
    y = np.linspace(-40, 40, 41, dtype=np.float32)
    np.testing.assert_allclose(numpy(ours.prob(y)), theirs.pdf(y), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.cdf(y)), theirs.cdf(y), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.mean()), theirs.mean(), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.variance()), theirs.var(), rtol=1e-5)
    np.testing.assert_allclose(numpy(ours.stddev()), theirs.std(), rtol=1e-5)
    np.testing.assert_allclose(
        numpy(ours.entropy()), theirs.entropy(), rtol=1e-5
    )
    assert float(ours.mode()) == 1.5


@given(
    loc=st.floats(-50, 50),
    scale=st.floats(1e-2, 1e2),
    level=st.floats(0.01, 0.99),
)
def test_is_the_pinball_loss_whose_quantile_is_loc(loc, scale, level):
    y = np.linspace(-100.0, 100.0, 9)
    with float64():
        laplace = AsymmetricLaplace(np.float64(loc), scale, level)
        found = -numpy(laplace.log_prob(y))
        mass = float(laplace.cdf(np.float64(loc)))
    r = (y - loc) / scale
    pinball = np.maximum(level * r, (level - 1) * r)
    constant = np.log(scale / (level * (1 - level)))
    np.testing.assert_allclose(found, pinball + constant, rtol=1e-12)
    assert mass == pytest.approx(level, rel=1e-14)


def test_one_half_is_the_laplace():
    y = np.array([-300.0, -30.0, -1.0, 0.5, 2.0, 40.0], np.float32)
    ours = AsymmetricLaplace(np.float32(0.5), 1.5)
    theirs = scipy.stats.laplace(0.5, 3.0)
    np.testing.assert_allclose(
        numpy(ours.log_prob(y)), theirs.logpdf(y), rtol=1e-5
    )
    np.testing.assert_allclose(
        numpy(ours.log_cdf(y)), theirs.logcdf(y), rtol=1e-5
    )
    assert float(ours.stddev()) == pytest.approx(theirs.std(), rel=1e-6)


@given(
    loc=st.floats(-100, 100),
    scale=st.floats(1e-3, 1e3),
    level=st.floats(1e-3, 0.999),
)
def test_density_integrates_to_one(loc, scale, level):
    """By Gauss-Laguerre in float64, one side at a time."""
    node, weight = np.polynomial.laguerre.laggauss(8)
    r = np.stack([-node / (1 - level), node / level])
    with float64():
        laplace = AsymmetricLaplace(np.float64(loc), scale, level)
        density = numpy(laplace.prob(loc + scale * r)) * np.exp(node) * weight
    below, above = density.sum(-1) * scale / np.array([1 - level, level])
    # Rounding of y, in the units of the scale.
    slack = 1e-12 * (1 + abs(loc) / scale)
    assert below == pytest.approx(level, rel=slack)
    assert above == pytest.approx(1 - level, rel=slack)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_quantile_agrees_with_mpmath(level, dtype, tolerance):
    kind = np.dtype(dtype).type
    p = [1e-37, 1e-30, 1e-10, 1e-4, 0.1, 0.3, 0.499999, 0.5, 0.500001]
    p += [0.6, 0.9, 0.9999, level, level * 0.9999, level * 1.0001]
    p = np.array(p).astype(dtype)
    exact = standard(ExactAsymmetricLaplace, float(kind(level)))
    exact = [float(exact.quantile(number(v))) for v in p]
    with float64():
        laplace = AsymmetricLaplace(kind(0), quantile_level=kind(level))
        found = numpy(laplace.quantile(p))
        ends = numpy(laplace.quantile(np.array([0, 1], dtype)))
    # Relative to itself, also about `loc`. In the upper half 1 - level is
    # rounded, which matters if the mass p there is of about that size.
    np.testing.assert_allclose(
        found, exact, rtol=tolerance, atol=0.01 * tolerance
    )
    assert ends.tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize("level", [1e-3, 0.3, 0.5, 0.95])
def test_samples_follow_the_cdf(level):
    draws = sample(AsymmetricLaplace(np.float32(0.3), 2.0, level), 20_000)
    r = (draws.astype(np.float64) - 0.3) / 2.0
    # False alarm: 1e-6 per case. A scale that is 5 % off gives p < 1e-8.
    u = np.where(
        r < 0,
        level * np.exp((1 - level) * np.minimum(r, 0)),
        1 - (1 - level) * np.exp(-level * np.maximum(r, 0)),
    )
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("level", [1e-12, 1e-8, 0.3, 0.5, 1 - 1e-6])
def test_gradients_are_finite_everywhere(level):
    y = np.array([0.0, 1.0, -1.0, 1e6, -1e6, 1e30, -1e30], np.float32)
    parameters = [np.full_like(y, v) for v in (0.0, 1.0, level)]
    for method in ("log_prob", "log_cdf", "log_survival_function", "cdf"):
        found = gradients(
            lambda y, *p, method=method: getattr(AsymmetricLaplace(*p), method)(
                y
            ),
            y,
            *parameters,
        )
        assert np.isfinite(found).all(), (method, found)
    p = np.float32([1e-30, 0.1, level, 0.5, 0.75, 1 - 1e-7, 0.3])
    found = gradients(
        lambda p, *q: AsymmetricLaplace(*q).quantile(p), p, *parameters
    )
    assert np.isfinite(found).all(), found


def test_the_mode_has_no_gradient():
    (found,) = gradients(
        lambda y: AsymmetricLaplace(0.0, 1.0, 0.9).log_prob(y),
        np.array([-1.0, 0.0, 1.0], np.float32),
    )
    np.testing.assert_allclose(found, [0.1, 0.0, -0.9], rtol=1e-6)


def central_differences(function, arguments, i, h):
    up, down = list(arguments), list(arguments)
    up[i], down[i] = up[i] + h, down[i] - h
    return (numpy(function(*up)) - numpy(function(*down))) / (2 * h)


def test_gradients_equal_finite_differences():
    random = np.random.default_rng(0)
    y, loc = random.uniform(-20, 20, 200), random.uniform(-3, 3, 200)
    arguments = [y, loc, random.uniform(0.2, 5, 200)]
    arguments.append(random.uniform(0.05, 0.95, 200))
    with float64():
        for method in ("log_prob", "log_cdf", "log_survival_function", "cdf"):

            def function(y, *p, method=method):
                return getattr(AsymmetricLaplace(*p), method)(y)

            for i, value in enumerate(gradients(function, *arguments)):
                # Rounding: 1e-16 |f| / h; curvature: h**2 f''' / 6.
                np.testing.assert_allclose(
                    value,
                    central_differences(function, arguments, i, 1e-6),
                    rtol=1e-5,
                    atol=1e-7,
                )


def test_cdf_has_the_density_for_gradient_at_the_mode():
    laplace = AsymmetricLaplace(0.0, 1.0, 0.9)
    for method, sign in (("cdf", 1.0), ("survival_function", -1.0)):
        (found,) = gradients(getattr(laplace, method), np.float32(0.0))
        assert found == pytest.approx(sign * 0.09, rel=1e-6)


def test_sample_gradients_are_those_of_the_quantile():
    """dy/dtheta = -(dF/dtheta) / f, also for the level."""
    parameters = [np.float64(v) for v in (0.3, 2.0, 0.8)]
    with float64():

        def draw(*p):
            return AsymmetricLaplace(*p).sample(200, seed=tfp_seed(3))

        y = draw(*parameters)
        weight = -1.0 / numpy(AsymmetricLaplace(*parameters).prob(y))
        implicit = gradients(
            lambda *p: weight * AsymmetricLaplace(*p).cdf(y), *parameters
        )
        pathwise = gradients(draw, *parameters)
    np.testing.assert_allclose(pathwise, implicit, rtol=1e-9, atol=1e-9)


_NODE, _WEIGHT = np.polynomial.legendre.leggauss(40)


def exact_kl(loc, scale, level, b_loc, b_scale, b_level):
    """By Gauss-Legendre in float64, on panels cut at both modes."""
    side = np.array([0, 0.1, 0.3, 1, 2, 3, 5, 8, 12, 17, 23, 30, 40])
    cuts = scale * np.append(-side[:0:-1] / (1 - level), side / level)
    shift = b_loc - loc
    cuts = np.unique(np.append(cuts, np.clip(shift, cuts[0], cuts[-1])))
    middle, half = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)[:, None] / 2
    y = middle[:, None] + half * _NODE

    def log_prob(r, width, tau):
        loss = np.maximum(tau * r, (tau - 1) * r)
        return np.log(tau) + np.log1p(-tau) - np.log(width) - loss

    own = log_prob(y / scale, scale, level)
    other = log_prob((y - shift) / b_scale, b_scale, b_level)
    mass = half * _WEIGHT * np.exp(own)
    assert mass.sum() == pytest.approx(1.0, abs=1e-12)
    return (mass * (own - other)).sum()


def kl(loc, scale, level, b_loc, b_scale, b_level):
    return tfd.kl_divergence(
        AsymmetricLaplace(loc, scale, level),
        AsymmetricLaplace(b_loc, b_scale, b_level),
    )


compiled_kl = jit(kl)


def assert_kl(parameters, tolerance):
    wide = zip(*np.asarray(parameters, np.float64), strict=True)
    exact = np.array(list(itertools.starmap(exact_kl, wide)))
    found = numpy(compiled_kl(*parameters))
    np.testing.assert_allclose(found, exact, **tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), KL_TOLERANCES)
def test_divergence_agrees_with_quadrature(dtype, tolerance):
    levels = [1e-3, 0.2, 0.5, 0.51, 0.999]
    rows = itertools.product(
        [0.25],
        [0.7],
        levels,
        [0.25, 0.2501, -0.3, 0.9, 60.0, -1e6],
        [1e-3, 0.6, 0.7, 2.0, 700.0],
        levels,
    )
    with float64():
        assert_kl(np.array(list(rows), dtype).T, tolerance)


@given(
    level=st.floats(1e-3, 0.999),
    b_level=st.floats(1e-3, 0.999),
    log_ratio=st.floats(-7, 7),
    distance=st.floats(-20, 20),
)
def test_divergence_agrees_anywhere(level, b_level, log_ratio, distance):
    row = [[0.0], [1.0], [level], [distance], [np.exp(log_ratio)], [b_level]]
    for dtype, tolerance in KL_TOLERANCES:
        with float64():
            assert_kl(np.array(row, dtype), tolerance)


def test_divergence_is_exact_between_nearly_equal():
    """Far below the rounding of numbers of order 1, and never negative."""
    level = np.array([0.01, 0.3, 0.5, 0.97])[:, None]
    for step in (1e-5, 1e-3, 0.03):
        signs = np.array(list(itertools.product((-1, 0, 1), repeat=3))).T
        rows = [
            np.zeros_like(level),
            np.ones_like(level),
            level,
            step * signs[0] / np.maximum(level, 1 - level),
            1 + step * signs[1],
            level * (1 + step * (1 - level) * signs[2]),
        ]
        rows = [np.broadcast_to(r, (4, 27)).astype(np.float32) for r in rows]
        found = numpy(kl(*rows))
        with float64():
            wide = numpy(kl(*(r.astype(np.float64) for r in rows)))
            assert (wide >= 0).all()
        assert (found >= 0).all()
        # The same formula in float64, which quadrature has confirmed to 1e-13.
        # The steps have a rounding of 1e-7, and the divergence is quadratic in
        # them.
        np.testing.assert_allclose(found, wide, rtol=1e-5, atol=3e-7 * step)


def test_divergence_of_laplaces_is_what_tfp_knows():
    loc, scale = np.float32([0.0, 0.1, -2.0, 40]), np.float32([0.3, 1, 2, 7])
    ours = kl(loc, 0.5, 0.5, 0.0, 0.5 * scale, 0.5)
    theirs = tfd.kl_divergence(tfd.Laplace(loc, 1.0), tfd.Laplace(0.0, scale))
    np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-5, atol=1e-6)


def test_divergence_gradients():
    random = np.random.default_rng(0)
    loc, b_loc = random.normal(size=(2, 200)) * 2
    scale, b_scale = 10 ** random.uniform(-1, 1, (2, 200))
    level, b_level = random.uniform(0.05, 0.95, (2, 200))
    # Where pieces meet, and where all parameters are equal.
    b_loc[:40] = loc[:40]
    b_scale[20:40], b_level[20:40] = scale[20:40], level[20:40]
    loc[40:60], b_loc[40:60] = 2 * scale[40:60], 0.0
    level[40:60] = 0.5
    arguments = [loc, scale, level, b_loc, b_scale, b_level]
    with float64():
        for i, value in enumerate(gradients(kl, *arguments)):
            np.testing.assert_allclose(
                value,
                central_differences(kl, arguments, i, 1e-6),
                rtol=1e-4,
                atol=1e-5,
            )
    single = [a.astype(np.float32) for a in arguments]
    for distance in (0.0, 1e6, -1e6, 1e30):
        single[0] = np.full(200, distance, np.float32)
        assert np.isfinite(gradients(kl, *single)).all(), distance


@pytest.mark.parametrize("method", ["log_prob", "log_cdf", "quantile", "kl"])
def test_compiled_equals_eager(method):
    value = np.array([0.1, 0.5, 0.8], np.float32)
    arguments = [
        ops.convert_to_tensor(v) for v in (value, 0.3 * value, value, value)
    ]

    def function(value, *p):
        laplace = AsymmetricLaplace(*p)
        if method == "kl":
            return tfd.kl_divergence(laplace, AsymmetricLaplace(value))
        return getattr(laplace, method)(value)

    compiled = [jit(function)]
    if BACKEND == "tensorflow":
        compiled.append(jit(function, jit_compile=True))
    for other in compiled:
        np.testing.assert_allclose(
            numpy(other(*arguments)),
            numpy(function(*arguments)),
            rtol=1e-6,
            atol=1e-6,
        )


def test_divergence_broadcasts_and_adds_up():
    batch = AsymmetricLaplace([[0.0], [1.0]], [1.0, 2.0, 3.0], 0.9)
    other = AsymmetricLaplace([0.0] * 3)
    divergence = tfd.kl_divergence(batch, other)
    assert divergence.shape == (2, 3)
    independent = tfd.Independent(batch, 1)
    np.testing.assert_allclose(
        numpy(tfd.kl_divergence(independent, tfd.Independent(other, 1))),
        numpy(divergence).sum(-1),
        1e-6,
    )


@pytest.mark.parametrize("level", [1.0, 90.0])
def test_levels_above_one_are_refused(level):
    with pytest.raises(Exception, match="`quantile_level` must be inside"):
        numpy(
            AsymmetricLaplace(0.0, 1.0, level, validate_args=True).sample(
                seed=tfp_seed(3)
            )
        )
