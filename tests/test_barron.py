"""Barron is a normalised density, right in its tails, shape and gradients."""

import functools
import math

import keras
import mpmath
import numpy as np
import pytest
import scipy.stats
from keras import ops
from support import fast, float64, gradients, numpy

from tfp_vae.distributions import Barron, barron_density, barron_tables
from tfp_vae.substrate import tfd, tfp_seed

ALPHAS = np.array(
    [0, 1e-3, 0.1, 0.5, 1, 1.5, 1.99, 2, 2.01, 3, 4.1, 5], np.float32
)
RESIDUALS = np.array([0, 1e-5, 1e-2, 0.3, 1, 2, 5, 20, 300, 1e5], np.float32)
# Relative to the value, or to 1 where it is smaller.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


# Trapezoidal in t with r = exp(pi / 2 sinh(t)), which suits exponential and
# algebraic tails alike.
STEP = 1 / 32


@functools.cache
def nodes() -> list[tuple[mpmath.mpf, mpmath.mpf]]:
    ts = [mpmath.mpf(k) * STEP for k in range(-120, 154)]
    rs = [mpmath.exp(mpmath.pi / 2 * mpmath.sinh(t)) for t in ts]
    return [
        (r, r * mpmath.cosh(t) * STEP * mpmath.pi / 2)
        for r, t in zip(rs, ts, strict=True)
    ]


class Exact:
    """The standard Barron density by mpmath, to some 15 digits."""

    def __init__(self, alpha: float) -> None:
        self.alpha = mpmath.mpf(float(alpha))
        self.z = 2 * self.integral(lambda r: 1)
        self.log_z = mpmath.log(self.z)

    def energy(self, r):
        a = self.alpha
        if a == 0:
            return mpmath.log1p(r * r / 2)
        if a == 2:
            return r * r / 2
        b = abs(a - 2)
        return b / a * ((1 + r * r / b) ** (a / 2) - 1)

    def integral(self, function, start=0, width=1):
        """Integral of function(r) exp(-rho(r) + rho(start)) over r > start."""
        base, total = self.energy(start), mpmath.mpf(0)
        for d, weight in nodes():
            r = start + width * d
            total += weight * function(r) * mpmath.exp(base - self.energy(r))
        return width * total

    def log_prob(self, r):
        return -self.energy(mpmath.mpf(r)) - self.log_z

    def log_tail(self, r):
        """Log P(R > r), r >= 0."""
        a, r = self.alpha, mpmath.mpf(r)
        slope = r if a == 2 else r * (1 + r * r / abs(a - 2)) ** (a / 2 - 1)
        integral = self.integral(lambda r: 1, r, 1 / (slope + 1 / (1 + r)))
        return mpmath.log(integral) - self.energy(r) - self.log_z

    def mean_of(self, function):
        return 2 * self.integral(function) / self.z

    def slope_in_alpha(self, r):
        """The derivative of rho(r) in alpha, from the right at 0."""
        a = self.alpha or mpmath.mpf("1e-9")
        sign, b = mpmath.sign(a - 2), abs(a - 2)
        w = 1 + r * r / b
        power = w ** (a / 2)
        return (sign / a - b / a**2) * (power - 1) + power / a * (
            b * mpmath.log(w) / 2 - sign * a * r * r / (2 * b * w)
        )


@functools.cache
def exact(alpha):
    return Exact(alpha)


@functools.cache
def tables():
    """Log density and log upper tail, `[residuals, alphas]`."""
    return tuple(
        [[f(exact(a), float(r)) for a in ALPHAS] for r in RESIDUALS]
        for f in (Exact.log_prob, Exact.log_tail)
    )


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(25):
        yield


def log_normalizer(alpha):
    return numpy(barron_density.log_normalizer(ops.convert_to_tensor(alpha)))


def assert_close(actual, expected, tolerance):
    actual = np.asarray(numpy(actual), np.float64)
    expected = np.array(expected, dtype=np.float64)
    error = np.abs(actual - expected) / np.maximum(np.abs(expected), 1.0)
    worst = int(np.argmax(error))
    assert error.max() <= tolerance, (
        np.unravel_index(worst, error.shape),
        actual.ravel()[worst],
        expected.ravel()[worst],
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalizer_has_its_known_values(dtype):
    """The closed forms; Meijer's G of the paper; the limit in [1]'s code.

    [1]: robust_loss/fit_partition_spline.py of google-research.
    """
    known = {
        0: mpmath.pi * mpmath.sqrt(2),
        1: 2 * mpmath.e * mpmath.besselk(1, 1),
        2: mpmath.sqrt(2 * mpmath.pi),
        4: mpmath.exp(0.25) * mpmath.besselk(0.25, 0.25),
        1e9: mpmath.exp("0.70526025442689566"),
    }
    for numerator, denominator in ((3, 2), (1, 2), (5, 2), (8, 1), (7, 4)):
        known[numerator / denominator] = published(numerator, denominator)
    with float64():
        found = log_normalizer(np.array(list(known), dtype))
    expected = [float(mpmath.log(z)) for z in known.values()]
    # The limit is approached as 1 / alpha.
    tolerance = 2 * np.finfo(dtype).eps if dtype == "float32" else 2e-14
    np.testing.assert_allclose(found[:4], expected[:4], rtol=tolerance)
    np.testing.assert_allclose(found[4], expected[4], rtol=1e-7)
    np.testing.assert_allclose(
        found[5:], expected[5:], rtol=max(tolerance, 1e-9)
    )


def published(n: int, d: int) -> mpmath.mpf:
    """Z(n / d) after equation 18 of the paper."""
    c = abs(mpmath.mpf(2 * d) / n - 1)
    upper = [mpmath.mpf(k) / n for k in range(1, n)]
    lower = [(k - mpmath.mpf("0.5")) / n for k in range(n)]
    lower += [mpmath.mpf(k) / (2 * d) for k in range(1, 2 * d)]
    z = (mpmath.mpf(1) / n - mpmath.mpf(1) / (2 * d)) ** (2 * d)
    g = mpmath.meijerg([[], upper], [lower, []], z)
    return mpmath.exp(c) * mpmath.sqrt(c) * (2 * mpmath.pi) ** (1 - d) * g


@pytest.mark.parametrize(
    ("name", "alpha", "beta", "sign"),
    [
        ("LOG_Z_BELOW_1", lambda x: 0.4 * x / (1.4 - x), None, None),
        ("LOG_Z_BELOW_2", lambda x: 2 - x**6, lambda x: x**6, -1),
        (
            "LOG_Z_ABOVE_2",
            lambda x: 2 + x**6 / (1 - x**6),
            lambda x: x**6,
            1,
        ),
    ],
)
def test_chebyshev_coefficients_can_be_worked_out_again(
    name, alpha, beta, sign
):
    """In float64, without cancellation near alpha = 2.

    The fit is of log Z in the x that gives alpha, or beyond alpha = 1 of (log
    Z - log sqrt(2 pi)) / (sign beta) - log(beta) / 4.
    """
    table = np.array(getattr(barron_tables, name))
    n = len(table)
    angle = np.pi * (2 * np.arange(n) + 1) / (2 * n)
    x = 0.5 * (1 + np.cos(angle))
    step = 1 / 128
    t = step * np.arange(-560, 540 if beta is None else 410)[:, None]
    r = np.exp(np.pi / 2 * np.sinh(t))
    weight = r * np.pi / 2 * np.cosh(t) * step
    a = alpha(x)
    b = np.abs(a - 2) if beta is None else beta(x)
    if sign == 1:
        b = b / (1 - b)
    log_w = np.log1p(r * r / b)
    if beta is None:
        z = 2 * (weight * np.exp(-b / a * np.expm1(a / 2 * log_w))).sum(0)
        values = np.log(z)
    else:
        # First rho - r**2 / 2, and from this Z / sqrt(2 pi) - 1.
        with np.errstate(over="ignore"):
            away = (r * r + b) * np.expm1(sign * b / 2 * log_w)
        away = (away - sign * b * r * r / 2) / a
        change = np.where(
            away < -1,
            np.exp(-r * r / 2 - away) - np.exp(-r * r / 2),
            np.exp(-r * r / 2) * np.expm1(np.minimum(-away, 1)),
        )
        off = 2 * (weight * change).sum(0) / np.sqrt(2 * np.pi)
        values = np.log1p(off) / (sign * beta(x)) - np.log(beta(x)) / 4
    again = 2 / n * np.cos(np.outer(np.arange(n), angle)) @ values
    again[0] /= 2
    np.testing.assert_allclose(again, table, rtol=0, atol=5e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_density_and_tails_agree_with_mpmath(dtype):
    @fast
    def values(r, alpha):
        density = Barron(ops.zeros_like(alpha[0]), alpha=alpha)
        return (
            density.log_prob(r),
            density.log_survival_function(r),
            density.log_cdf(-r),
            density.cdf(-r),
            density.cdf(r),
            density.log_cdf(r),
        )

    with float64():
        found = values(
            ops.convert_to_tensor(RESIDUALS.astype(dtype)[:, None]),
            ops.convert_to_tensor(ALPHAS.astype(dtype)),
        )
    densities, tails = tables()
    masses = np.array([[mpmath.exp(t) for t in row] for row in tails])
    below = [[mpmath.log1p(-m) for m in row] for row in masses]
    for value, expected in zip(
        found,
        (densities, tails, tails, masses, 1 - masses, below),
        strict=True,
    ):
        assert keras.backend.standardize_dtype(value.dtype) == dtype
        assert_close(value, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_and_entropy_agree_with_mpmath(dtype):
    names = ("variance", "entropy", "stddev", "mean", "mode")

    @fast
    def values(alpha):
        half = ops.full_like(alpha, 0.5)
        density = Barron(half, 4 * half, alpha)
        return [getattr(density, name)() for name in names]

    with float64():
        variance, entropy, stddev, mean, mode = values(
            ops.convert_to_tensor(ALPHAS.astype(dtype))
        )
    for value in (variance, entropy, stddev, mean, mode):
        assert keras.backend.standardize_dtype(value.dtype) == dtype
    members = [exact(a) for a in ALPHAS]
    entropies = [mpmath.log(2) + e.log_z + e.mean_of(e.energy) for e in members]
    assert_close(entropy, entropies, TOLERANCE[dtype])
    # At alpha = 1e-3 it is 1e95: beyond float32, and beyond this integral.
    finite = ALPHAS > 0.05
    expected = [
        float(4 * e.mean_of(lambda r: r * r)) if k else 0.0
        for e, k in zip(members, finite, strict=True)
    ]
    assert_close(
        numpy(variance)[finite], np.array(expected)[finite], TOLERANCE[dtype]
    )
    assert_close(
        numpy(stddev)[finite],
        np.sqrt(np.array(expected)[finite]),
        TOLERANCE[dtype],
    )
    assert (numpy(mode) == 0.5).all()
    np.testing.assert_array_equal(
        numpy(mean), np.where(ALPHAS == 0, np.nan, 0.5)
    )
    assert np.isnan(numpy(variance)[0])
    if dtype == "float32":
        assert numpy(variance)[1] == np.inf


def test_variance_keeps_up_with_its_rise_at_small_alpha():
    """By the trapezoidal rule in log r, centred on the bump."""
    for alpha in (3e-3, 0.02):
        log_r = np.linspace(-20, 3.5 / alpha, 20_001)
        a, b = alpha, 2 - alpha
        log_w = np.logaddexp(0, 2 * log_r - np.log(b))
        log_terms = 3 * log_r - b / a * np.expm1(a / 2 * log_w)
        top = log_terms.max()
        log_moment = np.log(np.exp(log_terms - top).sum() * np.diff(log_r)[0])
        expected = top + log_moment + np.log(2) - float(exact(alpha).log_z)
        with float64():
            found = np.log(numpy(Barron(np.float64(0), alpha=a).variance()))
        assert found == pytest.approx(expected, rel=1e-10)


def test_undefined_statistics_can_be_errors():
    cauchy = Barron(0.0, alpha=[0.0, 1.0], allow_nan_stats=False)
    for statistic in ("mean", "variance"):
        with pytest.raises(Exception, match="undefined at `alpha` = 0"):
            getattr(cauchy, statistic)()
    np.testing.assert_array_equal(numpy(cauchy.mode()), 0.0)


def test_density_integrates_to_one():
    """By the trapezoidal rule in float64, at random scales and shapes."""
    rng = np.random.default_rng(0)
    alpha = np.concatenate([rng.uniform(0, 4, 40), [0, 1e-6, 2 - 1e-9, 2, 30]])
    scale = np.exp(rng.normal(size=alpha.shape))
    t = np.arange(-4.5, 4.5, 1 / 128)[:, None]
    r = np.exp(np.pi / 2 * np.sinh(t))
    jacobian = r * np.pi / 2 * np.cosh(t)
    with float64():
        density = Barron(np.float64(3.0), scale, alpha)
        mass = numpy(density.prob(3.0 + scale * r)) * scale
        mass += numpy(density.prob(3.0 - scale * r)) * scale
    np.testing.assert_allclose((mass * jacobian).sum(0) / 128, 1.0, rtol=1e-12)


def test_quantile_inverts_cdf():
    p = [1e-30, 1e-10, 1e-4, 0.1, 0.3, 0.49, 0.5, 0.6, 0.9, 0.9999, 0.0, 1.0]
    p = np.array(p, np.float32)[:, None]
    quantile = fast(lambda a, p: Barron(ops.zeros_like(a), alpha=a).quantile(p))
    y = numpy(quantile(*map(ops.convert_to_tensor, (ALPHAS, p))))
    assert (y[-2] == -np.inf).all()
    assert (y[-1] == np.inf).all()
    p, y = p[:-2].astype(np.float64), y[:-2].astype(np.float64)

    @fast
    def values(alpha, p, y):
        density = Barron(ops.zeros_like(alpha), alpha=alpha)
        return density.log_cdf(y), density.log_prob(y), density.quantile(p)

    with float64():
        wide = ALPHAS.astype(np.float64)
        back, log_prob, fine = map(numpy, values(wide, p, y))
        again = numpy(
            fast(lambda a, y: Barron(0.0 * a, alpha=a).cdf(y))(wide, fine)
        )
    # A relative error of 1e-5 in y moves log cdf by |y| times the hazard.
    slack = 3e-6 + np.abs(y) * np.exp(log_prob - back) * 1e-5
    assert (np.abs(back - np.log(p)) <= slack).all()
    np.testing.assert_allclose(again, np.broadcast_to(p, y.shape), rtol=1e-12)


def test_samples_follow_the_cdf():
    alphas = np.array([0.0, 0.3, 1.0, 1.999, 2.0, 4.0], np.float32)
    density = Barron(np.float32(0.3), 2.0, alphas)
    draws = numpy(fast(lambda s: density.sample(20_000, seed=s))(tfp_seed(0)))
    # A separate oracle: the density summed on a grid in asinh(r).
    t = np.arange(-30, 30, 1e-3)
    r = np.sinh(t)
    for alpha, column in zip(alphas.astype(np.float64), draws.T, strict=True):
        b = abs(alpha - 2)
        with np.errstate(over="ignore"):
            energy = (
                r * r / 2
                if alpha == 2
                else np.log1p(r * r / 2)
                if alpha == 0
                else b / alpha * np.expm1(alpha / 2 * np.log1p(r * r / b))
            )
        mass = np.cumsum(np.exp(-energy) * np.cosh(t))
        u = np.interp(np.arcsinh((column - 0.3) / 2), t + 5e-4, mass / mass[-1])
        # False alarm: 1e-6 per case. A scale that is 5 % off gives p < 1e-8.
        assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6, alpha
    # No draw repeats, and none is further out than is likely among 20,000:
    # P(|R| > x) = 0.9 / x for the Cauchy, so a false alarm is one in 1e5.
    assert len(np.unique(draws[:, 0])) > 19_900
    assert np.abs(draws).max() < 4e9


def test_cauchy_and_normal_are_members():
    y = np.array([-1e4, -30.0, -1.0, 0.0, 2.0, 1e6], np.float32)[:, None]
    p = np.array([0.01, 0.4, 0.7], np.float32)[:, None]
    loc, scale = np.float32([0.5, 0.5]), np.float32([2.0, 2.0])
    alpha = np.float32([0.0, 2.0])
    twins = tfd.Cauchy(0.5, 2 * math.sqrt(2.0)), tfd.Normal(0.5, 2.0)

    @fast
    def values(y, p):
        ours = Barron(loc, scale, alpha)
        return (
            ours.log_prob(y),
            ours.cdf(y),
            ours.survival_function(y),
            ours.quantile(p),
            ours.entropy()[None],
        )

    expected = [
        ops.concatenate(
            [
                t.log_prob(y),
                t.cdf(y),
                t.survival_function(y),
                t.quantile(p),
                t.entropy()[None, None],
            ]
        )
        for t in twins
    ]
    np.testing.assert_allclose(
        np.concatenate([numpy(v) for v in values(y, p)]),
        np.concatenate([numpy(v) for v in expected], axis=1),
        rtol=1e-5,
        atol=5e-7,
    )
    found = gradients(
        fast(lambda y, m, s: Barron(m, s, alpha).log_prob(y)),
        y,
        loc,
        scale,
    )
    theirs = gradients(
        lambda y, m, s: ops.concatenate(
            [
                tfd.Cauchy(m[:1], math.sqrt(2.0) * s[:1]).log_prob(y),
                tfd.Normal(m[1:], s[1:]).log_prob(y),
            ],
            axis=1,
        ),
        y,
        loc,
        scale,
    )
    for a, b in zip(found, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_gradients_are_finite_everywhere():
    """Finite wherever the log density is, and up to 1e30 for linear tails."""
    alpha = [0.0, 1e-6, 0.5, 1.0, 1.2, 1.999, 2.0, 2.001, 4.0]
    y = [0.0, 1e-30, 1e-4, 1.0, -1.0, 1e4, -1e4, -1e8, 1e15, 1e30, -1e30]
    y, alpha = (v.ravel() for v in np.meshgrid(y, alpha))
    keep = np.log10(np.abs(y) + 1) * np.maximum(alpha, 1) < 37
    y, alpha = y[keep].astype(np.float32), alpha[keep].astype(np.float32)
    zeros, ones = np.zeros_like(y), np.ones_like(y)

    @fast
    def everything(y, *parameters):
        density = Barron(*parameters)
        return density.log_prob(y) + density.log_cdf(y)

    for found in gradients(everything, y, zeros, ones, alpha):
        wrong = ~np.isfinite(found)
        assert not wrong.any(), (y[wrong], alpha[wrong])


def test_gradient_in_alpha_agrees_with_mpmath():
    """In float32, as close to 0, 1 and 2 as its numbers allow."""
    alpha = [0.0, 1e-6, 0.01, 0.5, 0.9999, 1.0, 1.0001, 1.999, 1.9999999]
    alpha = np.array([*alpha, 2.0000002, 2.001, 3.0, 4.0], np.float32)
    r = np.array([0.0, 0.3, 3.0, 40.0], np.float32)
    y, shape = (v.ravel() for v in np.meshgrid(r, alpha))
    zeros, ones = np.zeros_like(y), np.ones_like(y)
    *_, found = gradients(
        fast(lambda y, *p: Barron(*p).log_prob(y)), y, zeros, ones, shape
    )

    expected = []
    for member in (exact(a) for a in alpha):
        mean = member.mean_of(member.slope_in_alpha)
        expected += [float(mean - member.slope_in_alpha(float(v))) for v in r]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_score_in_alpha_has_mean_zero_at_2():
    """The finite gradient at exactly 2 is a score; the true one diverges."""
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    with float64():
        *_, found = gradients(
            fast(lambda a: Barron(0.0 * a, alpha=a).log_prob(node) * weight),
            np.full(60, 2.0),
        )
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0.1
    # For r**2 log(r**2), Hermite's rule of 60 nodes has an error of 1e-2.
    assert abs(found.sum() / weight.sum()) < 2e-2


def test_gradients_equal_finite_differences():
    rng = np.random.default_rng(0)
    n = 60
    alpha = np.concatenate(
        [rng.uniform(0.05, 1.9, 40), rng.uniform(2.1, 5, 20)]
    )
    arguments = [rng.uniform(-9, 9, n), rng.normal(size=n)]
    arguments += [rng.uniform(0.3, 4, n), alpha]
    # The seams of its formulas: r**2 = |alpha - 2|, and alpha = 1.
    seams = [(1, 0, 1, 1), (-1, 0, 1, 3), (0.5, 0, 1, 1.75), (3, 1, 4, 2.25)]
    arguments = [
        np.concatenate(pair)
        for pair in zip(arguments, np.float64(seams).T, strict=True)
    ]
    weights = np.array([1.0, 0.7])[:, None]
    h = 1e-4

    @fast
    def function(y, *parameters):
        density = Barron(*parameters)
        return weights * ops.stack([density.log_prob(y), density.log_cdf(y)])

    with float64():
        found = gradients(function, *arguments)
        for i, value in enumerate(found):
            at = []
            for k in (-2, -1, 1, 2):
                moved = list(arguments)
                moved[i] = moved[i] + k * h
                at.append(numpy(function(*moved)).sum(0))
            difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
            # h**4 times the fifth derivative, next to alpha = 2.
            np.testing.assert_allclose(value, difference, rtol=1e-7, atol=1e-7)


def test_sample_gradients_equal_finite_differences():
    """At a fixed seed a draw is a smooth function of all three parameters."""
    arguments = [np.full(5, v) for v in (0.3, 2.0)]
    arguments.append(np.array([0.01, 0.7, 1.0, 1.9, 3.0]))
    h = 1e-4
    with float64():
        seed = tfp_seed(3)
        draw = fast(lambda *p: Barron(*p).sample(200, seed=seed))
        assert keras.backend.standardize_dtype(draw(*arguments).dtype) == (
            "float64"
        )
        # A weight for each draw, since a mirrored pair would cancel.
        weight = np.linspace(0, 1, 200)[:, None]
        found = gradients(lambda *p: weight * draw(*p), *arguments)
        for i, value in enumerate(found):
            at = []
            for k in (-2, -1, 1, 2):
                moved = list(arguments)
                moved[i] = moved[i] + k * h
                at.append((weight * numpy(draw(*moved))).sum(0))
            difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
            np.testing.assert_allclose(value, difference, rtol=1e-6)


def test_negative_alpha_has_no_density():
    assert np.isnan(numpy(Barron(0.0, alpha=-0.5).log_prob(1.0)))
