"""Gibbs is the density of any energy: normalised, sampled, differentiated."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st
from keras import ops
from support import fast, float64, gradients, numpy

from tfp_vae import VAE, layers
from tfp_vae.distributions import Gibbs
from tfp_vae.distributions.serialization import serialize_function
from tfp_vae.substrate import jit, tfd, tfp_seed

# Errors of log Z and what contains it; float64 if the energy is smooth.
TOLERANCE = {"float32": 2e-6, "float64": 1e-9}


def square(r):
    return 0.5 * r * r


def cauchy(r):
    return ops.log1p(r * r)


@keras.saving.register_keras_serializable("test_gibbs")
def charbonnier(r):
    return ops.sqrt(1.0 + r * r)


def huber(r):
    inner = ops.minimum(ops.abs(r), 1.345)
    return inner * (ops.abs(r) - 0.5 * inner)


def log_cosh(r):
    return ops.abs(r) + ops.log1p(ops.exp(-2.0 * ops.abs(r))) - math.log(2.0)


def tukey(r):
    return (1.0 - (1.0 - ops.minimum(r * r, 1.0)) ** 3) / 6.0


def quad(function, cuts):
    """The integral by scipy in float64, between the given cuts."""
    return sum(
        scipy.integrate.quad(function, a, b, epsabs=0, epsrel=1e-13, limit=200)[
            0
        ]
        for a, b in itertools.pairwise(cuts)
    )


GAMMA = scipy.special.gamma(1.7)

# Energy, support, Z.
ENERGIES = {
    "charbonnier": (charbonnier, None, 2 * scipy.special.kv(1, 1.0)),
    "cauchy": (cauchy, None, math.pi),
    "log_cosh": (log_cosh, None, math.pi),
    "huber": (
        huber,
        None,
        math.sqrt(2 * math.pi) * scipy.special.erf(1.345 / math.sqrt(2))
        + 2 / 1.345 * math.exp(-(1.345**2) / 2),
    ),
    "quartic": (lambda r: r**4, None, 2 * scipy.special.gamma(1.25)),
    "far_away": (lambda r: square(r - 100.0), None, math.sqrt(2 * math.pi)),
    "narrow": (
        lambda r: square(1e3 * (r - 0.3)),
        None,
        math.sqrt(2 * math.pi) / 1e3,
    ),
    "student_half": (
        lambda r: 0.75 * ops.log1p(2.0 * r * r),
        None,
        math.sqrt(0.5) * scipy.special.beta(0.5, 0.25),
    ),
    "two_wells": (
        lambda r: square(r * r - 4.0),
        None,
        2 * quad(lambda r: math.exp(-((r * r - 4) ** 2) / 2), [0, 2, 5]),
    ),
    "stretched": (lambda r: 2.0 * ops.abs(r) ** 0.5, None, 1.0),
    "half_line": (lambda r: r, (0.0, math.inf), 1.0),
    "half_line_around_0": (lambda r: r, (-3.0, math.inf), math.exp(3.0)),
    "lower_half_line": (
        lambda r: square(r - 2.0),
        (-math.inf, -1.0),
        math.sqrt(2 * math.pi) * scipy.stats.norm.cdf(-3.0),
    ),
    "gamma": (lambda r: r - 0.7 * ops.log(r), (0.0, math.inf), GAMMA),
    "interval": (lambda r: 0.0 * r, (-1.0, 3.0), 4.0),
    "tukey": (
        tukey,
        (-5.0, 5.0),
        2 * quad(lambda r: math.exp(((1 - r * r) ** 3 - 1) / 6), [0, 1])
        + 8 * math.exp(-1 / 6),
    ),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float64") for name in ENERGIES),
        # Where the range or the spacing of float32 may matter.
        *(
            (name, "float32")
            for name in ("quartic", "far_away", "narrow", "student_half")
        ),
    ],
)
def test_normalizer_is_exact(name, dtype):
    energy, support, z = ENERGIES[name]
    at = 0.5 if support is None else max(support[0], min(0.5, support[1]))
    with float64():
        r = np.array(at, dtype)
        found = fast(
            lambda r: Gibbs(
                energy, ops.zeros_like(r), support=support
            ).log_prob(r)
        )(r)
        level = float(numpy(energy(ops.convert_to_tensor(r))))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    # float32: 0.3 is off by 1e-8, times 1e3, times the slope 1e2.
    tolerance = TOLERANCE[dtype] * max(1.0, abs(level))
    if name == "stretched":
        # Its slope at 0 is infinite.
        tolerance = 1e-8
    assert float(numpy(found)) == pytest.approx(
        -level - math.log(z), abs=tolerance
    )


@functools.cache
def with_kinks():
    """Log densities at 0 and `kink`: a pinball with a flat, and a wall."""

    def log_probs(kink, slope, flat):
        zero = ops.zeros_like(kink)

        def pinball(r):
            return ops.maximum(slope * (r - kink - flat), kink - r)

        def wall(r):
            return ops.where(ops.abs(r - kink) < slope, 0.0, math.inf)

        return (
            Gibbs(pinball, zero).log_prob(zero),
            pinball(zero),
            Gibbs(wall, zero).log_prob(kink),
        )

    return jit(log_probs)


@given(
    kink=st.floats(-5, 5),
    slope=st.floats(0.2, 5),
    flat=st.floats(0, 3),
)
# A wall, and a kink, between an edge of a panel and the first node.
@example(kink=-4.75986799, slope=0.98416684, flat=2.65)
@example(kink=0.0, slope=1.0, flat=1 / 256)
def test_kinks_at_unknown_places(kink, slope, flat):
    with float64():
        found, level, walled = (
            float(numpy(v))
            for v in with_kinks()(*np.array([kink, slope, flat]))
        )
    # The two branches meet `slope * flat / (1 + slope)` below the kink's 0.
    log_z = math.log(1.0 + 1.0 / slope) + slope * flat / (1 + slope)
    assert found == pytest.approx(-level - log_z, abs=1e-7)
    assert walled == pytest.approx(-math.log(2 * slope), abs=1e-6)


Y = np.array([-40.0, -7.0, -1.2, 0.0, 0.3, 0.5, 1.0, 3.0, 60.0], np.float32)
P = np.array([1e-12, 1e-3, 0.2, 0.5, 0.8, 0.999], np.float32)


@pytest.mark.parametrize(
    ("energy", "twin"),
    [(ops.abs, scipy.stats.laplace), (cauchy, scipy.stats.cauchy)],
)
def test_twins(energy, twin):
    loc, scale = np.float32(0.3), np.float32(1.5)

    @fast
    def statistics(loc):
        density = Gibbs(energy, loc, scale)
        return {
            "log_prob": density.log_prob(Y),
            "cdf": density.cdf(Y),
            "survival_function": density.survival_function(Y),
            "log_cdf": density.log_cdf(Y),
            "log_survival_function": density.log_survival_function(Y),
            "quantile": density.quantile(P),
            "entropy": density.entropy(),
            "mean": density.mean(),
            "variance": density.variance(),
            "mode": density.mode(),
        }

    y, p = Y.astype(np.float64), P.astype(np.float64)
    twin = twin(float(loc), float(scale))
    exact = {
        "log_prob": twin.logpdf(y),
        "cdf": twin.cdf(y),
        "survival_function": twin.sf(y),
        "log_cdf": twin.logcdf(y),
        "log_survival_function": twin.logsf(y),
        "quantile": twin.ppf(p),
        "entropy": twin.entropy(),
        "mean": twin.mean(),
        "variance": twin.var(),
        "mode": 0.3,
    }
    for name, value in statistics(loc).items():
        np.testing.assert_allclose(
            numpy(value), exact[name], rtol=1e-5, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("energy", "twin"), [(square, tfd.Normal), (cauchy, tfd.Cauchy)]
)
def test_twins_have_the_same_gradients(energy, twin):
    y = np.array([-9.0, -1.2, 0.3, 0.31, 3.0])
    arguments = [y, np.full(5, 0.3), np.full(5, 1.5)]

    def values(density, y):
        return density.log_prob(y) + density.cdf(y)

    with float64():
        ours = gradients(
            fast(lambda y, m, s: values(Gibbs(energy, m, s), y)), *arguments
        )
        theirs = gradients(lambda y, m, s: values(twin(m, s), y), *arguments)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_gradients_reach_the_parameters_of_the_energy():
    """exp(-|r|**a) has Z = 2 gamma(1 + 1 / a), scipy's generalised normal."""
    y, power = np.array([-3.0, -0.4, 0.0, 0.2, 1.7]), np.float64(1.3)
    h = 1e-5
    with float64():

        def member(a, y):
            return Gibbs(lambda r: ops.abs(r) ** a, ops.zeros_like(y))

        def values(a):
            density = member(a, y)
            return ops.stack(
                [density.log_prob(y), density.cdf(y), density.entropy()]
            )

        def exact(a):
            twin = scipy.stats.gennorm(a)
            return twin.logpdf(y).sum() + twin.cdf(y).sum() + 5 * twin.entropy()

        (found,) = gradients(fast(values), power)
        difference = (exact(power + h) - exact(power - h)) / (2 * h)
        assert found == pytest.approx(difference, rel=1e-6)

        # dy/da = -(dF/da) / f at each draw.
        def draw(a):
            return member(a, np.zeros(())).sample(50, seed=tfp_seed(3))

        (found,) = gradients(fast(draw), power)
        x = numpy(fast(draw)(power))
        slope = scipy.stats.gennorm.cdf(x, power + h)
        slope -= scipy.stats.gennorm.cdf(x, power - h)
        expected = -slope / (2 * h) / scipy.stats.gennorm.pdf(x, power)
        assert found == pytest.approx(expected.sum(), rel=1e-5)


def test_energy_with_weights_is_trained_by_fit():
    """The power of |r|**a is recovered from draws."""

    @keras.saving.register_keras_serializable("test_gibbs")
    class Learned(keras.layers.Layer):
        def build(self, _):
            self.power = self.add_weight(name="power", initializer="ones")

        def call(self, x):
            likelihood = Gibbs(lambda r: (r * r + 1e-6) ** (0.5 * self.power))
            self.add_loss(-ops.mean(likelihood.log_prob(x)))
            return x

    rng = np.random.default_rng(0)
    x = scipy.stats.gennorm.rvs(2.5, size=(2048, 1), random_state=rng)
    model = keras.Sequential([keras.layers.Input((1,)), Learned()])
    model.compile(optimizer=keras.optimizers.Adam(0.1))
    model.fit(x.astype("float32"), epochs=5, batch_size=128, verbose=0)
    # The maximum-likelihood estimate has a standard error of 0.1.
    assert float(numpy(model.layers[0].power.value)) == pytest.approx(
        2.5, abs=0.6
    )


@pytest.mark.parametrize(
    ("energy", "support", "exact"),
    [
        (lambda r: r + ops.exp(-r), None, scipy.stats.gumbel_r),
        (square, (-1.0, 2.0), scipy.stats.truncnorm(-1.0, 2.0)),
    ],
    ids=["gumbel", "truncated_normal"],
)
def test_samples_follow_the_cdf(energy, support, exact):
    draw = fast(
        lambda seed: Gibbs(energy, 0.3, 2.0, support=support).sample(
            20_000, seed=seed
        )
    )
    draws = numpy(draw(tfp_seed(0)))
    r = (draws.astype(np.float64) - 0.3) / 2
    # False alarm: 1e-6. A scale that is 10 % off gives less than 1e-8.
    assert scipy.stats.kstest(r, exact.cdf).pvalue > 1e-6
    assert len(np.unique(draws)) > 19_900


def test_moments_of_power_tails_are_there_or_not():
    @fast
    def moments(degrees, loc):
        density = Gibbs(
            lambda r: 0.5 * (degrees + 1.0) * ops.log1p(r * r / degrees),
            loc,
            2.0,
        )
        return density.mean(), density.variance()

    for degrees in (0.7, 1.0, 1.5, 2.0, 2.1, 2.5, 5.0):
        mean, variance = (
            float(numpy(v)) for v in moments(np.float32(degrees), 0.5)
        )
        if degrees <= 1:
            assert np.isnan([mean, variance]).all(), degrees
            continue
        assert mean == pytest.approx(0.5, abs=1e-5)
        expected = 4 * degrees / (degrees - 2) if degrees > 2 else np.inf
        # The exponents of tails are read from energies of 100 in float32.
        assert variance == pytest.approx(expected, rel=2e-4), degrees


def test_moments_of_one_heavy_tail():
    """Lomax, of density k (1 + r)**-(1 + k) for r > 0."""

    @fast
    def statistics(k):
        density = Gibbs(
            lambda r: (1.0 + k) * ops.log1p(r),
            ops.zeros_like(k),
            support=(0.0, math.inf),
        )
        return density.mean(), density.variance(), density.entropy()

    for k, mean, variance in (
        (0.5, np.inf, np.nan),
        (1.5, 2.0, np.inf),
        (3.0, 0.5, 0.75),
    ):
        np.testing.assert_allclose(
            [float(numpy(v)) for v in statistics(np.float32(k))],
            [mean, variance, 1 + 1 / k - math.log(k)],
            rtol=1e-5,
        )


def test_statistics_on_bounded_supports():
    """A truncated exponential."""
    exact = scipy.stats.truncexpon(2.0)
    y = np.array([-0.5, 0.0, 0.7, 2.0, 2.5])
    p = np.array([0.0, 0.3, 1.0, 1.5])
    names = ("mean", "variance", "stddev", "entropy", "mode")

    @fast
    def values(zero):
        density = Gibbs(lambda r: r, zero, support=(0.0, 2.0))
        return (
            [getattr(density, n)() for n in names],
            density.log_prob(y),
            density.cdf(y),
            density.quantile(p),
        )

    with float64():
        statistics, *functions = values(np.zeros(()))
    expected = [exact.mean(), exact.var(), exact.std(), exact.entropy(), 0.0]
    np.testing.assert_allclose(
        [float(numpy(v)) for v in statistics], expected, rtol=1e-10, atol=1e-12
    )
    quantiles = [0.0, exact.ppf(0.3), 2.0, np.nan]
    for found, expected in zip(
        functions, (exact.logpdf(y), exact.cdf(y), quantiles), strict=True
    ):
        np.testing.assert_allclose(
            numpy(found), expected, rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize(
    ("energy", "mode"),
    [
        (lambda r: square(r * r - 4.0) + 0.01 * r, -2.0),
        (lambda r: ops.maximum(0.5 - r, 0.0) + ops.maximum(r - 2.0, 0.0), 0.5),
    ],
    ids=["two_wells", "flat"],
)
def test_mode_is_the_lowest_energy_nearest_to_loc(energy, mode):
    found = fast(lambda loc: Gibbs(energy, loc, 2.0).mode())(np.float32(1.0))
    # Within 1e-3 of the minimum the energy is constant in float32.
    assert float(numpy(found)) == pytest.approx(1 + 2 * mode, abs=3e-3)


REFUSED = {
    "tukey": (tukey, None),
    "geman_mcclure": (lambda r: r * r / (1.0 + r * r), None),
    "constant": (lambda r: 0.0 * r, None),
    "half_constant": (lambda r: 0.0 * r, (0.0, math.inf)),
    "one_over_r": (lambda r: ops.log1p(ops.abs(r)), None),
    "one_side_only": (lambda r: r, None),
    "slow": (lambda r: 1.05 * ops.log1p(ops.abs(r)), None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_energies_without_a_normalizer_are_refused(name):
    energy, support = REFUSED[name]
    with pytest.raises(ValueError, match="finite integral") as error:
        Gibbs(energy, 0.0, 1.0, support=support)
    for part in ("faster than log", "support=(low, high)", "Received", "1e+17"):
        assert part in str(error.value)
    Gibbs(energy, 0.0, 1.0, support=(-5.0, 5.0))


def test_in_a_compiled_function_they_are_nan():
    found = jit(lambda y: Gibbs(tukey).log_prob(y))(np.float32(0.0))
    assert np.isnan(numpy(found))


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        ({"energy": 1.0}, TypeError, "must be a function"),
        *(
            ({"energy": square, "support": support}, ValueError, "ascending")
            for support in ((1.0, 1.0), (math.nan, 1.0), 5.0, (0.0, 1.0, 2.0))
        ),
        *(
            ({"energy": energy}, ValueError, "element by element")
            for energy in (
                lambda r: ops.mean(r * r),
                lambda r: (r * r)[:2],
                lambda r: ops.expand_dims(r * r, 0),
            )
        ),
        ({"energy": lambda r: math.inf + r}, ValueError, "finite somewhere"),
        ({"energy": lambda r: math.nan * r}, ValueError, "finite somewhere"),
    ],
)
def test_other_mistakes_are_refused(arguments, error, rule):
    with pytest.raises(error, match=rule) as caught:
        Gibbs(**arguments)
    assert "Received" in str(caught.value)


def test_gradients_are_finite():
    """At a kink, in the far tails, and beyond the panels."""
    y = np.array([0.0, 1.0, -1.0, 1e4, -1e8, 1e18], np.float32)
    zeros, ones = np.zeros_like(y), np.ones_like(y)

    def values(y, loc, scale, weight):
        density = Gibbs(
            lambda r: weight[0] * ops.abs(r) + ops.log1p(r * r), loc, scale
        )
        return density.log_prob(y) + density.cdf(y)

    for found in gradients(fast(values), y, zeros, ones, ones):
        assert np.isfinite(found).all(), found


def test_gradients_where_the_energy_overflows():
    """exp(-w r**4): r**4 is infinite at the far nodes in float32."""
    w = 1.3
    variance = scipy.special.gamma(0.75) / scipy.special.gamma(0.25) / w**0.5

    def values(w):
        density = Gibbs(lambda r: w * r**4, ops.zeros_like(w))
        return density.entropy() + density.variance()

    (found,) = gradients(fast(values), np.float32(w))
    assert found == pytest.approx(-(0.25 + variance / 2) / w, rel=1e-5)


def test_the_normalizer_does_not_grow_with_the_batch():
    def shapes_asked_for(batch):
        shapes = []

        def energy(r):
            shapes.append(tuple(r.shape))
            return square(r)

        Gibbs(energy).log_prob(ops.zeros((batch, 784)))
        return shapes

    *normalizer, data = shapes_asked_for(128)
    assert data == (128, 784)
    assert shapes_asked_for(1) == [*normalizer, (1, 784)]


def test_outside_of_the_support():
    """No density gives no gradient, and NaN stays NaN."""
    energy, support, _ = ENERGIES["gamma"]
    y = np.array([-1.0, 0.5, np.nan], np.float32)

    def log_prob(loc):
        return Gibbs(energy, loc, support=support).log_prob(y)

    found = numpy(fast(log_prob)(ops.zeros(3)))
    exact = scipy.stats.gamma.logpdf(0.5, 1.7)
    np.testing.assert_allclose(found, [-np.inf, exact, np.nan], rtol=1e-5)
    (slope,) = gradients(fast(log_prob), np.zeros(3, np.float32))
    np.testing.assert_allclose(slope[:2], [0.0, 1 - 0.7 / 0.5], rtol=1e-5)


def test_properties():
    density = Gibbs(square, [[0.0], [1.0]], [1.0, 2.0, 3.0])
    assert density[0].energy is square
    assert density.copy(loc=7.0).energy is square
    assert density.support is None
    assert Gibbs(square, support=(-1, math.inf)).support == (-1.0, math.inf)
    assert Gibbs(square, support=(-math.inf, math.inf)).support is None


def test_crosses_compiled_functions():
    """As an argument and as a result, inside Independent."""
    # The support is so wide that this is a Normal.
    density = Gibbs(
        square, [[0.0], [1.0]], [1.0, 2.0, 3.0], support=(-40.0, 40.0)
    )
    y = np.ones((2, 3), np.float32)
    exact = scipy.stats.norm.logpdf(y, [[0.0], [1.0]], [1.0, 2.0, 3.0]).sum(-1)
    log_prob, copy = jit(lambda d: (d.log_prob(y), d.copy()))(
        tfd.Independent(density, 1)
    )
    np.testing.assert_allclose(numpy(log_prob), exact, rtol=1e-5)
    assert copy.distribution.energy is square
    np.testing.assert_array_equal(numpy(copy.distribution.loc), density.loc)


def test_event_space_bijectors_reach_the_support():
    x = np.array([-4.0, 0.0, 4.0], np.float32)
    for support in (None, (-1.0, 2.0), (0.5, math.inf), (-math.inf, 0.5)):
        density = Gibbs(square, 1.0, 2.0, support=support)
        bijector = density.experimental_default_event_space_bijector()
        y = numpy(bijector.forward(x))
        low, high = support or (-math.inf, math.inf)
        assert ((y > 1 + 2 * low) & (y < 1 + 2 * high)).all()


def test_undefined_statistics_can_be_errors():
    with pytest.raises(Exception, match="mean is undefined"):
        Gibbs(cauchy, allow_nan_stats=False).mean()


@keras.saving.register_keras_serializable("test_gibbs")
def charbonnier_likelihood(loc):
    return tfd.Independent(Gibbs(charbonnier, loc), 1)


@keras.saving.register_keras_serializable("test_gibbs")
class IndependentGibbs(layers.IndependentLayer):
    """The layer for any energy that is registered, with a scale."""

    parameters = ("loc", "scale")
    positive = {"scale": "shared"}

    def __init__(self, event_shape, energy, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.energy = energy

    def element_distribution(self, loc, scale):
        return Gibbs(self.energy, loc, scale)

    def get_config(self):
        energy = serialize_function(self.energy, "IndependentGibbs")
        return {**super().get_config(), "energy": energy}

    @classmethod
    def from_config(cls, config):
        energy = keras.saving.deserialize_keras_object(config.pop("energy"))
        return cls(energy=energy, **config)


@pytest.mark.parametrize(
    ("head", "epochs", "how"),
    [
        (
            lambda: layers.DistributionLambda(charbonnier_likelihood),
            2,
            {"run_eagerly": True},
        ),
        (lambda: IndependentGibbs(6, charbonnier), 20, {"jit_compile": True}),
    ],
    ids=["lambda_eagerly", "layer_compiled"],
)
def test_an_energy_trains_in_a_vae_and_is_saved(head, epochs, how, tmp_path):
    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=(64, 1)) @ rng.normal(size=(1, 6))
    x = (x + 0.3 * rng.standard_cauchy(size=x.shape)).astype("float32")
    encoder = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(2),
            layers.MultivariateNormalDiag(1),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(6), head()]
    )
    model = VAE(encoder, decoder, seed=0)
    model.compile(keras.optimizers.Adam(0.05), **how)
    losses = model.fit(x, batch_size=64, epochs=epochs, verbose=0).history
    assert losses["loss"][-1] < losses["loss"][0] - 2 * (epochs - 1)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    z = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    likelihood = loaded.decoder(z)
    assert likelihood.distribution.energy is charbonnier
    loc, scale = (
        numpy(getattr(likelihood.distribution, name))
        for name in ("loc", "scale")
    )
    # The mean of the standard density is 0 except for rounding.
    np.testing.assert_allclose(loc, numpy(model.decoder(z).mean()), atol=1e-6)
    # The lambda leaves it at 1, the layer learns it.
    assert (scale == 1.0) == ("run_eagerly" in how)
    r = (x - loc) / scale
    log_z = math.log(2 * scipy.special.kv(1, 1.0))
    np.testing.assert_allclose(
        numpy(likelihood.log_prob(x)),
        (-np.sqrt(1 + r * r) - np.log(scale) - log_z).sum(-1),
        rtol=1e-5,
    )


def test_a_decoder_refuses_what_cannot_be_normalised():
    head = layers.DistributionLambda(
        lambda t: tfd.Independent(Gibbs(tukey, t), 1)
    )
    with pytest.raises(ValueError, match="finite integral"):
        keras.Sequential([keras.Input((6,)), head])
