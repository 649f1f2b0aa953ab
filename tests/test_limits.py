"""Our distributions at the limits of numbers, and differentiated twice.

Each limit has its oracle in a closed form of TFP or SciPy, each derivative in
finite differences in float64.
"""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from devices import device  # noqa: F401
from keras import ops
from support import BACKEND, float64, gradients, numpy, sample

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Bernoulli,
    Composite,
    DiscretizedLogistic,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.substrate import jit, tfd, tfp, tfp_seed

INF = math.inf


def gibbs(loc, scale, power):
    return Gibbs(lambda r: (1.0 + r * r) ** (power / 2.0), loc, scale)


# Every family on the line, from three parameters.
LINE = {
    "huber": (Huber, 0.8),
    "huber_inf": (Huber, INF),
    "barron_0": (Barron, 0.0),
    "barron_1": (Barron, 1.0),
    "barron_2": (Barron, 2.0),
    "barron_5": (Barron, 5.0),
    "asymmetric": (AsymmetricLaplace, 0.3),
    "secant": (lambda loc, scale, _: HyperbolicSecant(loc, scale), 1.0),
    "gibbs": (gibbs, 1.3),
}
line = pytest.mark.parametrize("name", LINE)


def second_derivative(function, arguments, i, j):
    """d/dj of d/di of the sum of a function."""
    if BACKEND == "jax":
        import jax

        first = jax.grad(lambda *a: ops.sum(function(*a)), argnums=i)
        return numpy(jit(jax.grad(first, argnums=j))(*arguments))
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arguments]
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        with tf.GradientTape() as inner:
            inner.watch(tensors)
            value = ops.sum(function(*tensors))
        first = inner.gradient(value, tensors[i])
    return numpy(outer.gradient(first, tensors[j]))


@pytest.mark.parametrize("what", ["quantile", "draws"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(Barron, 1.3), (Barron, 2.6), (Huber, 0.8), (gibbs, 1.3)],
)
def test_second_derivatives_equal_finite_differences(make, shape, what):
    """Derivatives in the shape, with a numerical inverse of the cdf."""
    h = 1e-5
    with float64():
        arguments = [np.float64(v) for v in (0.3, 1.7, shape)]

        def function(*p):
            if what == "draws":
                return make(*p).sample(5, seed=tfp_seed(1))
            return make(*p).quantile(np.array([0.97, 0.3, 0.1]))

        found = second_derivative(function, arguments, 2, 2)
        up, down = (
            gradients(function, *arguments[:2], arguments[2] + d)[2]
            for d in (h, -h)
        )
    # Rounding: 1e-14 / h; curvature: h**2 times the fourth derivative.
    np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=1e-6)


def test_the_second_derivative_that_was_wrong():
    """It was -2.230; finite differences give 1.521."""
    with float64():
        arguments = [np.float64(v) for v in (0.3, 1.7, 1.3)]
        found = second_derivative(
            lambda *p: Barron(*p).quantile(np.float64(0.97)), arguments, 2, 2
        )
    assert found == pytest.approx(1.5206169, abs=1e-6)


@line
def test_masses_at_infinity(name):
    make, shape = LINE[name]
    y = np.array([-INF, INF, math.nan], np.float32)
    arguments = [y, np.zeros(3, np.float32), np.ones(3, np.float32)]
    expected = {
        "log_prob": (-INF, -INF),
        "cdf": (0, 1),
        "survival_function": (1, 0),
        "log_cdf": (-INF, 0),
        "log_survival_function": (0, -INF),
    }
    for method, ends in expected.items():

        def function(y, loc, scale, method=method):
            return getattr(make(loc, scale, np.float32(shape)), method)(y)

        *found, not_a_number = numpy(jit(function)(*arguments)).tolist()
        assert tuple(found) == ends, (method, found)
        assert math.isnan(not_a_number), method
        for gradient in gradients(function, *arguments):
            assert not np.isnan(gradient[:2]).any(), (method, gradient)
            if method != "log_prob":
                assert (gradient[:2] == 0).all()


@pytest.mark.parametrize("name", ["huber_inf", "barron_2"])
def test_where_the_energy_overflows_it_is_that_of_a_normal(name):
    make, shape = LINE[name]
    y = np.array([-3e38, -4e19, 4e19, 3e38], np.float32)
    arguments = [y, np.zeros(4, np.float32)]

    def function(y, loc):
        one = ops.ones_like(y)
        return make(loc, one, np.float32(shape) * one).log_prob(y)

    assert numpy(function(*arguments)).tolist() == [-INF] * 4
    ours = gradients(function, *arguments)
    # r e**q with a logarithm of about 88: 88 roundings.
    np.testing.assert_allclose(ours, [-y, y], rtol=88 * 6e-8)


def test_energies_of_the_largest_residuals():
    """rho = log(1 + r**2 / 2) for alpha 0, and about |r| for alpha 1."""
    y = np.array([1e20, 1e30, 3e38], np.float32)
    exact = scipy.stats.cauchy(0, math.sqrt(2)).logpdf(y.astype("float64"))
    ours = Barron(np.float32(0), 1.0, 0.0)
    np.testing.assert_allclose(numpy(ours.log_prob(y)), exact, rtol=1e-6)
    tail = np.log(math.sqrt(2) / np.pi) - np.log(y.astype("float64"))
    np.testing.assert_allclose(
        numpy(ours.log_survival_function(y)), tail, rtol=1e-6
    )
    # A sixteenth of the largest number is as large as an energy gets.
    y = np.array([1e20, 1e30, 2e37], np.float32)
    ours = Barron(np.float32(0), 1.0, 1.0)
    for method in ("log_prob", "log_survival_function"):
        np.testing.assert_allclose(
            numpy(getattr(ours, method)(y)), -y, rtol=1e-5
        )


@pytest.mark.parametrize("logit", [INF, -INF])
@pytest.mark.parametrize("x", [0, 1])
def test_infinite_logits_are_certainty(logit, x):
    agrees = x == (logit > 0)
    found = Bernoulli(logits=np.float32(logit)).log_prob(x)
    assert float(found) == (0.0 if agrees else -INF)
    (gradient,) = gradients(
        lambda p: Bernoulli(logits=p).log_prob(x), np.float32(logit)
    )
    assert gradient == x - (logit > 0)
    assert math.isnan(Bernoulli(logits=np.float32(math.nan)).log_prob(x))


def test_discretized_of_no_number():
    likelihood = DiscretizedLogistic(0.0, 1.0, -20, 20)
    for method in (
        "log_prob",
        "prob",
        "cdf",
        "log_cdf",
        "survival_function",
        "log_survival_function",
    ):
        y = np.array([math.nan, 1.0], np.float32)
        found = numpy(getattr(likelihood, method)(y))
        assert np.isnan(found).tolist() == [True, False], method


@pytest.mark.parametrize(
    ("loc", "scale", "at"),
    [
        (0.0, 1e-34, 0),
        (3e38, 1.0, 20),
        (3e38, 1e-3, 20),
        (-1e30, 1e-20, -20),
        (-1e30, 1e-15, -20),
    ],
)
def test_discretized_where_the_quotient_overflows(loc, scale, at):
    """All of the mass is at one outcome."""
    y = np.array([-20, 0, 20], np.float32)

    def likelihood(loc, scale):
        return DiscretizedLogistic(loc, scale, -20, 20)

    parameters = np.float32(loc), np.float32(scale)
    found = likelihood(*parameters)
    assert numpy(found.prob(y)).tolist() == (y == at).tolist()
    assert (numpy(found.cdf(y)) == (y >= at)).all()
    assert float(found.mean()) == float(found.mode()) == at
    assert float(found.variance()) == float(found.entropy()) == 0
    if scale < 1e-18:
        return  # its square underflows, and a gradient on JAX divides by it
    for method in ("log_prob", "prob", "cdf", "log_cdf", "mean", "entropy"):
        for gradient in gradients(
            lambda *p, method=method: (
                getattr(likelihood(*p), method)()
                if method in ("mean", "entropy")
                else getattr(likelihood(*p), method)(y)
            ),
            *parameters,
        ):
            assert np.isfinite(gradient), (method, gradient)


def test_discretized_of_the_widest_scales():
    """A uniform density of 1 / (4 scale) between two halves at the ends."""
    for scale in (1e30, 1e38, 3e38):
        found = DiscretizedLogistic(np.float32(0), np.float32(scale), -20, 20)
        assert float(found.log_prob(0.0)) == pytest.approx(
            -math.log(4 * scale), rel=1e-6
        )
        assert float(found.entropy()) == pytest.approx(math.log(2), rel=1e-6)


def test_moments_of_huber_do_not_overflow_by_the_way():
    # Practically a Laplace of scale 1: the variance is 2.
    tiny = Huber(0.0, 1e-20, 1e-20)
    np.testing.assert_allclose(numpy(tiny.variance()), 2.0, rtol=1e-6)
    np.testing.assert_allclose(numpy(tiny.stddev()), math.sqrt(2), rtol=1e-6)
    # Practically a normal.
    huge = Huber(0.0, 1e20, 50.0)
    np.testing.assert_allclose(numpy(huge.stddev()), 1e20, rtol=1e-6)
    wide = Barron(0.0, 1e20, 2.0)
    np.testing.assert_allclose(numpy(wide.stddev()), 1e20, rtol=1e-6)
    wide = Gibbs(lambda r: 0.5 * r * r, 0.0, 1e20)
    np.testing.assert_allclose(numpy(wide.stddev()), 1e20, rtol=1e-5)
    (slope,) = gradients(
        lambda delta: Huber(0.0, delta, delta).variance(), np.float32(1e-20)
    )
    # The variance of a Laplace of that scale: 2 for any delta up to 1e-20.
    assert abs(slope) * 1e-20 < 1e-4


def test_the_level_from_its_default_bijector_is_inside():
    bijector = AsymmetricLaplace.parameter_properties()[
        "quantile_level"
    ].default_constraining_bijector_fn()
    level = numpy(
        bijector.forward(np.array([-INF, -90.0, 0, 90, INF], "float32"))
    )
    assert (level > 0).all()
    assert (level < 1).all()
    assert level[2] == 0.5
    log_prob = AsymmetricLaplace(np.float32(0), 1.0, level).log_prob(0.5)
    assert np.isfinite(numpy(log_prob)).all()


# Shapes.


@line
def test_batches_and_samples_of_nothing(name):
    make, shape = LINE[name]
    empty = make(np.zeros(0, np.float32), 1.0, np.float32(shape))
    y = np.zeros(0, np.float32)
    for method in ("log_prob", "cdf", "log_survival_function", "quantile"):
        assert tuple(getattr(empty, method)(y).shape) == (0,), method
    for method in ("mean", "stddev", "entropy"):
        assert tuple(getattr(empty, method)().shape) == (0,), method
    assert sample(empty, 3).shape == (3, 0)
    assert sample(make(np.float32(0), 1.0, np.float32(shape)), 0).shape == (0,)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX knows all shapes")
@pytest.mark.parametrize("shape", [[None], [None, 2], None])
@pytest.mark.parametrize("make", [gibbs, DiscretizedLogistic])
def test_a_batch_shape_unknown_while_tracing(make, shape):
    import tensorflow as tf

    extra = (1.3,) if make is gibbs else ()
    loc = np.float32([0.2, 1.0]) if shape == [None] else np.ones((3, 2), "f4")

    def everything(loc):
        found = make(loc, np.float32(1.0), *extra)
        return (
            found.log_prob(ops.zeros_like(loc)),
            found.cdf(ops.zeros_like(loc)),
            found.quantile(0.3 * ops.ones_like(loc)),
            found.mean(),
            found.variance(),
            found.entropy(),
            found.mode(),
            found.sample(2, seed=tfp_seed(0)),
        )

    traced = tf.function(
        everything, input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    for found, expected in zip(traced(loc), everything(loc), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="no deferred tensors")
@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Huber, {"loc": 0.0, "scale": 1.0, "delta": 1.0}),
        (Barron, {"loc": 0.0, "scale": 1.0, "alpha": 1.0}),
        (
            AsymmetricLaplace,
            {"loc": 0.0, "scale": 1.0, "quantile_level": 0.4},
        ),
        (HyperbolicSecant, {"loc": 0.0, "scale": 1.0}),
        (DiscretizedLogistic, {"loc": 0.0, "scale": 1.0}),
        (Bernoulli, {"logits": 0.0}),
    ],
)
def test_a_parameter_is_worked_out_twice_at_most(make, values):
    """TFP's own rule, for parameters that are functions of variables."""
    import tensorflow as tf

    counts = dict.fromkeys(values, 0)

    def deferred(name, value):
        def work_out(x):
            counts[name] += 1
            return tf.identity(x)

        return tfp.util.DeferredTensor(tf.Variable([value]), work_out)

    ours = make(**{n: deferred(n, v) for n, v in values.items()})
    other = make(**values)
    half = np.float32([0.5])
    calls = {
        name: lambda name=name: getattr(ours, name)(half)
        for name in ("log_prob", "cdf", "log_survival_function", "quantile")
    } | {
        name: getattr(ours, name)
        for name in ("mean", "variance", "stddev", "entropy", "mode")
    }
    calls["kl"] = lambda: tfd.kl_divergence(ours, other)
    calls["kl to it"] = lambda: tfd.kl_divergence(other, ours)
    for name, call in calls.items():
        counts.update(dict.fromkeys(counts, 0))
        try:
            call()
        except NotImplementedError:
            continue
        assert max(counts.values()) <= 2, (name, counts)


# Fits and joint distributions.


def test_fits_are_the_likeliest():
    """No nearby value, nor SciPy's simplex, has a higher likelihood."""
    rng = np.random.default_rng(0)
    y = np.stack([rng.laplace(1, 2, 300), rng.gumbel(-50, 0.1, 300)], 1)
    for make in (AsymmetricLaplace, HyperbolicSecant):
        with float64():
            fit = make.experimental_fit(y)
            found = -numpy(fit.log_prob(y)).sum(0)
            start = [
                [float(numpy(fit.parameters[name])[i]) for name in names]
                for names in [make._tensor_names()]
                for i in range(2)
            ]
        for i in range(2):

            def loss(p, make=make, i=i):
                if p[1] <= 0 or (len(p) == 3 and not 0 < p[2] < 1):
                    return INF
                r = (y[:, i] - p[0]) / p[1]
                if make is HyperbolicSecant:
                    cosh = np.logaddexp(r, -r) - math.log(2)
                    return (cosh + math.log(math.pi * p[1])).sum()
                energy = np.maximum(p[2] * r, (p[2] - 1) * r)
                return (energy + np.log(p[1] / p[2] / (1 - p[2]))).sum()

            best = scipy.optimize.minimize(
                loss, start[i], method="Nelder-Mead", options={"xatol": 1e-9}
            ).fun
            assert found[i] == pytest.approx(loss(start[i]), rel=1e-9)
            assert found[i] <= best + 1e-7 * abs(best)


def test_a_joint_distribution_of_pixels():
    joint = tfd.JointDistributionNamed(
        {
            "z": tfd.Normal(0.0, 1.0),
            "x": lambda z: DiscretizedLogistic(100.0 + z, 3.0),
        }
    )
    draws = joint.sample(4, seed=tfp_seed(0))
    x, z = numpy(draws["x"]), numpy(draws["z"])
    expected = scipy.stats.norm.logpdf(z) + np.log(
        scipy.stats.logistic.cdf(x + 0.5, 100 + z, 3)
        - scipy.stats.logistic.cdf(x - 0.5, 100 + z, 3)
    )
    np.testing.assert_allclose(numpy(joint.log_prob(draws)), expected, 1e-5)
    pinned = joint.experimental_pin(x=101.0)
    assert np.isfinite(float(pinned.unnormalized_log_prob(z=0.3)))
    unconstrained = pinned.experimental_default_event_space_bijector()
    assert float(unconstrained.forward({"z": 1.5})["z"]) == 1.5


def two_rows(shift=0.0):
    loc = np.float32([0.0, 2.0]) + np.float32(shift)
    low = np.float32([-1.0, 3.0])
    return Composite(
        [
            tfd.Uniform(low, low + np.float32(2.0)),
            tfd.MultivariateNormalDiag(
                ops.stack([loc, loc], -1), np.ones(2, "f4")
            ),
            tfd.Dirichlet(np.ones((2, 3), "f4") + np.float32(abs(shift))),
        ],
        columns=[[2], [0, 4], [1, 3, 5]],
    )


def test_composite_has_the_divergence_of_its_blocks():
    found = tfd.kl_divergence(two_rows(), two_rows(1.0))
    blocks = zip(
        two_rows().distributions, two_rows(1.0).distributions, strict=True
    )
    expected = sum(numpy(tfd.kl_divergence(a, b)) for a, b in blocks)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-6)
    other = Composite(two_rows().distributions)
    with pytest.raises(NotImplementedError, match="the same columns"):
        tfd.kl_divergence(two_rows(), other)


def test_composite_from_an_unconstrained_space():
    row = two_rows()
    bijector = row.experimental_default_event_space_bijector()
    z = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    y = numpy(bijector.forward(z))
    assert y.shape == (2, 6)
    assert np.isfinite(numpy(row.log_prob(y))).all()
    np.testing.assert_allclose(y[:, [1, 3, 5]].sum(-1), 1.0, rtol=1e-6)
    assert (np.abs(y[:, 2] - [0.0, 4.0]) < 1).all()
    np.testing.assert_allclose(numpy(bijector.inverse(y)), z, atol=1e-5)
    discrete = Composite([tfd.Normal(0.0, 1.0), tfd.Bernoulli(0.0)])
    assert discrete.experimental_default_event_space_bijector() is None
