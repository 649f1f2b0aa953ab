"""Measures of a model against values computed in float64.

The decoder is x = W z + b + noise, with orthogonal columns of W, so that the
exact posterior has independent coordinates. The third column is zero.
"""

import weakref

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from tfp_vae import VAE, layers
from tfp_vae.annealing import annealed_importance_sampling
from tfp_vae.calibration import (
    bits_per_dimension,
    probability_integral_transform,
)
from tfp_vae.evaluation import (
    active_units,
    aggregate_posterior,
    bidirectional_bounds,
    kl_per_dimension,
    marginal_log_likelihood,
    rate_distortion,
)
from tfp_vae.substrate import is_discrete, tfd

D, L, NOISE = 4, 3, 0.6
W = np.array([[1.0, 1.0, 0], [1.0, -1.0, 0], [1.0, 0.5, 0], [1.0, -0.5, 0]])
W *= [0.7, 0.4, 1.0]
B = np.array([0.5, -1.0, 0.0, 2.0])
VARIANCE = 1 / (1 + (W**2).sum(0) / NOISE**2)


def posterior_mean(x):
    return (np.asarray(x, "float64") - B) @ W * VARIANCE / NOISE**2


class Encoder(keras.layers.Layer):
    """The exact mean, shifted, with a chosen family and scale."""

    def __init__(self, family=tfd.MultivariateNormalDiag, scale=None, shift=0):
        super().__init__()
        self.family = family
        scale = np.sqrt(VARIANCE) if scale is None else scale
        self.scale = np.asarray(scale, "float32")
        self.shift = shift

    def call(self, x):
        gain = ops.convert_to_tensor((W * VARIANCE / NOISE**2), "float32")
        loc = ops.matmul(x - ops.convert_to_tensor(B, "float32"), gain)
        loc = loc[:, : self.scale.shape[-1]]
        return self.family(loc + self.shift, ops.convert_to_tensor(self.scale))


def decoder(head=layers.IndependentNormal, kernel=W.T, bias=B, **modes):
    part = keras.Sequential(
        [
            keras.Input((len(kernel),)),
            keras.layers.Dense(len(bias)),
            head(len(bias), **modes),
        ]
    )
    part.layers[0].set_weights([kernel, bias])
    return part


def model(noise=NOISE, **posterior):
    vae = VAE(Encoder(**posterior), decoder(scale=noise))
    vae(np.zeros((1, D), "float32"))
    return vae


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, L)) @ W.T + B + NOISE * rng.normal(size=(n, D))
    return x.astype("float32")


X = data(50)
RIGHT = model()
EVIDENCE = scipy.stats.multivariate_normal(B, W @ W.T + NOISE**2 * np.eye(D))


def independent_logistic(loc, scale):
    return tfd.Independent(tfd.Logistic(loc, scale), 1)


# The latent space.


def test_kl_per_dimension_in_closed_form():
    mean = posterior_mean(X)
    exact = (mean**2 + VARIANCE - 1 - np.log(VARIANCE)) / 2
    # 50 = 3 * 16 + 2: the last batch is padded.
    found = kl_per_dimension(RIGHT, X, batch_size=16)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)


def test_kl_per_dimension_by_monte_carlo():
    """Logistic from normal: -log s - 2 + log(2 pi) / 2 + E z**2 / 2."""
    vae = model(family=independent_logistic, scale=[0.3, 0.5, 1.0])
    mean, scale = posterior_mean(X), np.array([0.3, 0.5, 1.0])
    exact = np.log(2 * np.pi) / 2 - np.log(scale) - 2
    exact = exact + (mean**2 + np.pi**2 * scale**2 / 3) / 2
    samples = 2000
    z = scipy.stats.logistic.rvs(
        mean, scale, (4000, *mean.shape), random_state=0
    )
    terms = scipy.stats.logistic.logpdf(z, mean, scale) + z**2 / 2
    found = kl_per_dimension(vae, X, samples, seed=0)
    scores = (found - exact) / (terms.std(axis=0) / np.sqrt(samples))
    # 150 scores, and an error of the variance of a few per cent.
    assert np.abs(scores).max() < 5
    assert scores.std() > 0.7


def test_coordinates_that_depend_on_each_other_have_no_kl_of_their_own():
    tril = np.linalg.cholesky(np.eye(L) + 0.2)
    vae = model(family=tfd.MultivariateNormalTriL, scale=tril)
    with pytest.raises(NotImplementedError, match="are independent"):
        kl_per_dimension(vae, X)


def test_active_units_are_those_of_numpy():
    found = active_units(RIGHT, X, batch_size=16)
    exact = posterior_mean(X).var(axis=0)
    np.testing.assert_allclose(found.variance, exact, rtol=1e-4, atol=1e-12)
    assert found.active.tolist() == [True, True, False]
    assert found.num_active == 2
    assert active_units(RIGHT, X, exact[1] * 1.01).num_active == 1


@pytest.mark.parametrize("rows", [8192, 300])
def test_rate_and_distortion(rows, monkeypatch):
    """Their sum is -log p(x), since the posterior is exact; also in chunks."""
    monkeypatch.setattr("tfp_vae.evaluation.batches.ROWS", rows)
    samples = 200
    found = rate_distortion(RIGHT, X, samples, batch_size=16, seed=0)
    mean = posterior_mean(X)
    rate = (mean**2 + VARIANCE - 1 - np.log(VARIANCE)).sum(1) / 2
    np.testing.assert_allclose(found.rate, rate, rtol=1e-4)
    # The variance of log p(x|z), a quadratic form in z.
    slope = (X - B - mean @ W.T) @ W * np.sqrt(VARIANCE) / NOISE**2
    curvature = (W**2).sum(0) * VARIANCE / NOISE**2
    variance = (slope**2 + curvature**2 / 2).sum(1)
    error = np.sqrt(variance / samples)
    scores = (found.elbo - EVIDENCE.logpdf(X)) / error
    assert np.abs(scores).max() < 5
    assert 0.6 < scores.std() < 1.4
    np.testing.assert_array_equal(found.elbo, -(found.rate + found.distortion))
    again = rate_distortion(RIGHT, X, samples, batch_size=16, seed=0)
    np.testing.assert_array_equal(found.elbo, again.elbo)


def test_aggregate_posterior_by_quadrature(monkeypatch):
    """On a plane, with posteriors whose two coordinates depend on each other.

    Blocks are small, so that draws and posteriors need several each.
    """
    monkeypatch.setattr("tfp_vae.evaluation.latents._PAIRS", 16 * 2 * 1000)
    tril = np.array([[0.4, 0.0], [0.3, 0.5]])
    encoder = Encoder(tfd.MultivariateNormalTriL, tril)
    vae = VAE(encoder, decoder(kernel=W.T[:2], scale=NOISE))
    x, samples = X[:40], 400
    found = aggregate_posterior(vae, x, samples, batch_size=16, seed=0)

    step = 0.04
    axis = np.arange(-6, 6, step)
    z = np.stack(np.meshgrid(axis, axis), axis=-1)
    log_q = np.stack(
        [
            scipy.stats.multivariate_normal.logpdf(z, mean, tril @ tril.T)
            for mean in posterior_mean(x)[:, :2]
        ]
    )
    weights = np.exp(log_q) * step**2
    log_marginal = scipy.special.logsumexp(log_q, axis=0) - np.log(len(x))
    log_prior = scipy.stats.multivariate_normal.logpdf(z, np.zeros(2))
    for name, terms in (
        ("mutual_information", log_q - log_marginal),
        ("marginal_kl", (log_marginal - log_prior)[None]),
    ):
        each = (weights * terms).sum((1, 2))
        spread = (weights * terms**2).sum((1, 2)) - each**2
        error = np.sqrt(spread.sum() / samples) / len(x)
        assert abs(getattr(found, name) - each.mean()) < 5 * error
        # Draws of the same example add one or two per cent of the variance.
        assert getattr(found, f"{name}_error") == pytest.approx(
            each.std(ddof=1) / np.sqrt(len(x)), rel=0.1
        )


def test_mutual_information_is_at_most_log_n():
    """Posteriors that do not overlap identify each example."""
    vae = model(scale=[1e-3] * L)
    found = aggregate_posterior(vae, X, seed=0)
    assert found.mutual_information == pytest.approx(np.log(50), abs=1e-5)
    with pytest.raises(ValueError, match="several examples"):
        aggregate_posterior(vae, X[:1])


# The data.


def test_bits_by_quadrature():
    rng = np.random.default_rng(0)
    kernel, bias = np.array([[2.0, -1.0, 0.5]]), np.array([0.0, 1.0, -1.0])
    x = rng.integers(0, 2, (30, 3)).astype("float32")
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    probs = scipy.special.expit(nodes[:, None] * kernel + bias)
    each = scipy.stats.bernoulli.pmf(x[:, None], probs).prod(-1)
    exact = -np.log2(each @ weights / weights.sum()) / 3
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, kernel_initializer="zeros"),
            layers.MultivariateNormalDiag(1),
        ]
    )
    vae = VAE(encoder, decoder(layers.IndependentBernoulli, kernel, bias))
    found = bits_per_dimension(vae, x, 1000, seed=0)
    scores = (found.bits - exact) / found.standard_error
    assert np.abs(scores).max() < 5
    assert np.median(found.pareto_k) < 0.7
    with (
        pytest.raises(ValueError, match="cross-entropy"),
        pytest.warns(UserWarning, match="whole numbers"),
    ):
        bits_per_dimension(vae, 0.9 * x)


def test_a_density_has_no_bits():
    with pytest.raises(ValueError, match=r"QuantizedDistribution.*nats"):
        bits_per_dimension(RIGHT, X)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (lambda: tfd.Normal(0.0, 1.0), False),
        (lambda: tfd.Poisson(3.0), True),
        (lambda: tfd.Independent(tfd.Bernoulli([0.0]), 1), True),
        (lambda: tfd.QuantizedDistribution(tfd.Logistic(0.0, 1.0)), True),
        (lambda: mixture(tfd.Poisson([1.0, 2.0])), True),
        (lambda: mixture(tfd.Normal([1.0, 2.0], 1.0)), False),
        (lambda: two(tfd.Poisson(1.0), tfd.Poisson(2.0)), True),
        (lambda: tfd.Deterministic(np.int32(3)), True),
        (
            lambda: tfd.JointDistributionNamed(
                {"a": tfd.Normal(0.0, 1.0), "b": tfd.Categorical([0.0])}
            ),
            False,
        ),
        (lambda: two(tfd.Normal(1.0, 1.0), tfd.Normal(2.0, 1.0)), False),
    ],
)
def test_what_has_probabilities(distribution, expected):
    assert is_discrete(distribution()) == expected


def mixture(components):
    return tfd.MixtureSameFamily(tfd.Categorical([0.0, 0.0]), components)


def two(*components):
    return tfd.Mixture(tfd.Categorical([0.0, 0.0]), components)


def test_the_transform_is_uniform_for_a_model_that_is_right():
    found = probability_integral_transform(RIGHT, data(500), seed=0)
    assert found.values.shape == (500, D)
    assert found.values.min() > 0
    assert found.values.max() < 1
    test = scipy.stats.kstest(found.values.ravel(), "uniform")
    assert test.pvalue > 1e-6
    assert found.distance == pytest.approx(test.statistic, rel=1e-9)
    assert (found.histogram == np.histogram(found.values, 10, (0, 1))[0]).all()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_transform_shows_a_wrong_spread(factor):
    """Much too narrow: high at the ends; too wide: high in the middle."""
    found = probability_integral_transform(
        model(factor * NOISE), data(500), seed=0
    )
    assert scipy.stats.kstest(found.values.ravel(), "uniform").pvalue < 1e-6
    ends = found.histogram[[0, 9]].sum() / found.histogram.sum()
    assert ends > 0.3 if factor < 1 else ends < 0.1


def test_many_draws_crowd_about_one_half():
    x = data(100)
    one = probability_integral_transform(RIGHT, x, seed=0)
    many = probability_integral_transform(RIGHT, x, 300, seed=0)
    assert many.values.std() < one.values.std()


@pytest.mark.parametrize(
    ("head", "bias", "draw"),
    [
        (layers.IndependentPoisson, np.log(3), scipy.stats.poisson(3)),
        (layers.IndependentBernoulli, 1.0, scipy.stats.bernoulli(0.73106)),
    ],
)
@pytest.mark.parametrize("right", [True, False])
def test_the_transform_of_outcomes_is_randomised(head, bias, draw, right):
    """The decoder ignores z, so any posterior and any S are right."""
    bias = np.full(D, bias if right else bias - 0.5)
    vae = VAE(Encoder(), decoder(head, 0 * W.T, bias))
    x = draw.rvs((500, D), random_state=0).astype("float32")
    found = probability_integral_transform(vae, x, 2, seed=0)
    test = scipy.stats.kstest(found.values.ravel(), "uniform")
    assert (test.pvalue > 1e-6) == right


class WithoutCDF(tfd.Normal):
    def _cdf(self, x):
        raise NotImplementedError


class Head(keras.layers.Layer):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def call(self, z):
        return self.make(ops.concatenate([z, z[:, :1]], axis=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda loc: tfd.MultivariateNormalTriL(loc, ops.eye(D)), "are indep"),
        (lambda loc: tfd.Independent(WithoutCDF(loc, 1.0), 1), "has no cdf"),
    ],
)
def test_no_transform_without_independent_elements_and_cdf(make, message):
    with pytest.raises(NotImplementedError, match=message):
        probability_integral_transform(VAE(Encoder(), Head(make)), X)


# Annealing.


@pytest.mark.filterwarnings("ignore:An estimate of log p:UserWarning")
@pytest.mark.parametrize("initial", ["posterior", "prior"])
def test_annealing_covers_what_a_bad_encoder_misses(initial):
    """A tenth of the width, and shifted by five of its standard deviations."""
    bad = model(scale=0.1 * np.sqrt(VARIANCE), shift=0.5 * np.sqrt(VARIANCE))
    exact = EVIDENCE.logpdf(X)
    missed = bad.marginal_log_likelihood(X, 1000, seed=0)
    assert np.median(missed.pareto_k) > 0.7
    assert (exact - missed.log_likelihood).mean() > 1

    found = annealed_importance_sampling(
        bad, X, num_steps=200, initial=initial, batch_size=50, seed=0
    )
    assert (found.acceptance_rate > 0.6).all()
    assert (found.acceptance_rate < 0.9).all()
    error = found.log_likelihood - exact
    assert abs(error.mean()) < 0.3
    if initial == "prior":
        scores = error / found.standard_error
        # With 16 chains they follow Student's t, of standard deviation 1.07.
        assert abs(scores.mean()) < 5 * 1.07 / np.sqrt(len(X))
        assert 0.6 < scores.std() < 1.6
        assert found.standard_error.max() < 0.3


def test_weights_of_annealing_are_right_on_average():
    """Over 400 examples, with so few steps that a wrong kernel shows."""
    x = data(400)
    found = annealed_importance_sampling(
        RIGHT, x, num_steps=20, initial="prior", batch_size=400, seed=0
    )
    ratio = np.exp(found.log_likelihood - EVIDENCE.logpdf(x))
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(x))
    assert ratio.std() / np.sqrt(len(x)) < 0.02


def test_annealing_from_the_exact_posterior_is_exact():
    found = annealed_importance_sampling(
        RIGHT, X[:9], 10, 2, batch_size=4, seed=0
    )
    # float32 densities of about -10.
    np.testing.assert_allclose(
        found.log_likelihood, EVIDENCE.logpdf(X[:9]), atol=2e-5
    )


def test_an_estimate_by_annealing_that_is_too_low_is_told():
    """From the prior, in two useless steps, to data far out."""
    far = (B + 5 * (X - B)).astype("float32")
    with pytest.warns(UserWarning, match="below importance_bound in") as told:
        found = annealed_importance_sampling(
            RIGHT, far, 2, 4, step_size=1e-3, initial="prior", seed=0
        )
    # On JAX, TFP's own warnings are among them.
    (told,) = [w for w in told if "by annealing" in str(w.message)]
    assert told.filename == __file__
    assert 'num_steps=2, or initial="posterior"' in str(told.message)
    assert (found.importance_bound - found.log_likelihood > 5).mean() > 0.3
    # The encoder is exact: each importance weight is p(x). float32 densities of
    # about -100.
    exact = EVIDENCE.logpdf(far)
    np.testing.assert_allclose(found.importance_bound, exact, rtol=2e-5)
    good = annealed_importance_sampling(RIGHT, far, 2, 4, seed=0)
    np.testing.assert_allclose(good.log_likelihood, exact, rtol=2e-5)
    np.testing.assert_allclose(good.effective_sample_size, 4, rtol=1e-4)


@pytest.mark.parametrize("initial", ["posterior", "prior"])
def test_bidirectional_bounds_hold_the_evidence(initial):
    """On average over 200 examples, whose entropy is known."""
    wide = model(scale=1.5 * np.sqrt(VARIANCE))
    short, long = (
        bidirectional_bounds(
            wide, data(200), steps, 2, initial=initial, batch_size=200, seed=0
        )
        for steps in (2, 40)
    )
    for found in (short, long):
        spread = found.lower.std() / np.sqrt(200)
        assert found.lower.mean() < -EVIDENCE.entropy() + 4 * spread
        assert found.upper.mean() > -EVIDENCE.entropy() - 4 * spread
    # Both bounds have the same examples, which cancel in the gap.
    assert short.gap.mean() > 4 * short.gap.std() / np.sqrt(200)
    assert abs(long.gap.mean()) < 0.4 * short.gap.mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": "encoder"}, "prior"),
        ({"num_chains": 1}, "two chains"),
        ({"step_size": 0.0}, "positive"),
        ({"num_steps": 0}, "num_steps is an int >= 1"),
        ({"batch_size": 0}, "batch_size is an int >= 1"),
    ],
)
def test_annealing_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(RIGHT, X, **arguments)


@pytest.mark.parametrize(
    "measure",
    [
        kl_per_dimension,
        active_units,
        rate_distortion,
        aggregate_posterior,
        bits_per_dimension,
        probability_integral_transform,
    ],
)
def test_wrong_use_is_refused(measure):
    with pytest.raises(ValueError, match="int >= 1"):
        measure(RIGHT, X, batch_size=0)
    with pytest.raises(ValueError, match="finite"):
        measure(RIGHT, np.full_like(X, np.nan))


def test_progress_shows(capsys):
    rate_distortion(RIGHT, X[:8], 10, verbose=True)
    assert "80/80" in capsys.readouterr().out
    rate_distortion(RIGHT, X[:8], 10)
    assert not capsys.readouterr().out


# Models of other classes.


class Mine(keras.Model):
    """Not a VAE, but with the three methods."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)

    def prior_distribution(self, posterior):
        return tfd.MultivariateNormalDiag(
            ops.zeros(posterior.event_shape), ops.ones(posterior.event_shape)
        )


def quick_annealing(model, x, **arguments):
    return annealed_importance_sampling(
        model, x, num_steps=3, num_chains=2, **arguments
    )


def annealing_from_the_prior(model, x, **arguments):
    return quick_annealing(model, x, initial="prior", **arguments)


def units(model, x, seed=None, **arguments):
    return active_units(model, x, **arguments)


WITH_TARGET = [
    marginal_log_likelihood,
    rate_distortion,
    probability_integral_transform,
    bits_per_dimension,
    quick_annealing,
    annealing_from_the_prior,
]
MEASURES = [*WITH_TARGET, kl_per_dimension, units, aggregate_posterior]

# The figures must be equal, but need not be good: the posterior is not that of
# the targets.
UNTRUSTED = pytest.mark.filterwarnings(
    "ignore:An estimate of log p:UserWarning"
)


def outcomes(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (n, D)).astype("float32")


def setting(measure):
    """A model for a measure, and data and targets for the model."""
    if measure is bits_per_dimension:
        likelihood = decoder(layers.IndependentBernoulli)
        return VAE(Encoder(), likelihood), outcomes(50), outcomes(50, 1)
    return RIGHT, X, data(50, 1)


def same(found, expected, **tolerance):
    parts = [
        list(figure) if isinstance(figure, tuple) else [figure]
        for figure in (found, expected)
    ]
    for one, other in zip(*parts, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


@UNTRUSTED
@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_of_another_class_has_the_same_figures(measure):
    vae, x, _ = setting(measure)
    mine = Mine(vae.encoder, vae.decoder)
    found = measure(mine, x, batch_size=16, seed=0)
    # Another class of prior, in float32; annealing adds up its differences.
    same(
        found,
        measure(vae, x, batch_size=16, seed=0),
        rtol=1e-4,
        atol=1e-4,
    )


def test_layers_that_were_not_called_yet_are_built_first():
    encoder = keras.Sequential(
        [keras.layers.Dense(2 * L), layers.MultivariateNormalDiag(L)]
    )
    mine = Mine(
        encoder,
        keras.Sequential(
            [keras.layers.Dense(2 * D), layers.IndependentNormal(D)]
        ),
    )
    found = rate_distortion(mine, X, 4, seed=0)
    again = rate_distortion(mine, X, 4, seed=0)
    assert len(mine.trainable_variables) == 4
    np.testing.assert_array_equal(found.elbo, again.elbo)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_model_is_refused(measure):
    with pytest.raises(
        TypeError, match=r"Received: Sequential without encode, decode, prior_"
    ):
        measure(keras.Sequential(), X)


# Targets and pipelines.


def test_the_target_of_the_likelihood_is_y():
    """The decoder ignores z, so that the density of y is known."""
    y = data(50, 1)
    vae = VAE(Encoder(), decoder(kernel=0 * W.T, scale=NOISE))
    exact = scipy.stats.norm.logpdf(y, B, NOISE)
    found = rate_distortion(vae, X, 2, y=y)
    np.testing.assert_allclose(found.distortion, -exact.sum(1), rtol=1e-5)
    found = probability_integral_transform(vae, X, y=y)
    np.testing.assert_allclose(
        found.values, scipy.stats.norm.cdf(y, B, NOISE), atol=1e-5
    )
    # From the prior each weight is the density of y, which does not depend on
    # z.
    found = annealing_from_the_prior(vae, X, y=y, seed=0)
    np.testing.assert_allclose(found.log_likelihood, exact.sum(1), rtol=1e-4)
    # The posterior is the prior.
    blind = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Lambda(lambda x: 0 * x[:, :L]),
            layers.DistributionLambda(
                lambda z: tfd.MultivariateNormalDiag(z, ops.ones(L))
            ),
        ]
    )
    vae = VAE(blind, vae.decoder)
    found = marginal_log_likelihood(vae, X, 30, y=y)
    np.testing.assert_allclose(found.log_likelihood, exact.sum(1), rtol=1e-5)
    bias = np.full(D, 0.7)
    bernoulli = decoder(layers.IndependentBernoulli, 0 * W.T, bias)
    y = outcomes(50)
    exact = scipy.stats.bernoulli.logpmf(y, scipy.special.expit(bias))
    found = bits_per_dimension(VAE(blind, bernoulli), X, 30, y=y)
    np.testing.assert_allclose(
        found.bits, -exact.mean(1) / np.log(2), rtol=1e-4
    )
    with pytest.raises(ValueError, match="support of the likelihood"):
        marginal_log_likelihood(VAE(blind, bernoulli), X, y=2 + y)


class Batches:
    """A loader of another library: it can be iterated again."""

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // 7)

    def __getitem__(self, i):
        return self.x[7 * i : 7 * i + 7], self.y[7 * i : 7 * i + 7]


def tf_data(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(7)


def in_pieces(x, y):
    """Smaller and larger than a batch."""
    ends = [2, 3, 30]
    return Batches(
        *zip(np.split(x, ends), np.split(y, ends), strict=True),
    )


@UNTRUSTED
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("pipeline", [tf_data, Sequence, in_pieces])
def test_figures_of_a_pipeline_are_those_of_arrays(measure, pipeline):
    vae, x, y = setting(measure)
    target = {"y": y} if measure in WITH_TARGET else {}
    expected = measure(vae, x, batch_size=16, seed=0, **target)
    found = measure(vae, pipeline(x, y), batch_size=16, seed=0)
    same(found, expected, rtol=1e-7)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: (x,)])
def test_a_pipeline_without_targets(make):
    expected = rate_distortion(RIGHT, X, 3, seed=0)
    pieces = Batches(*map(make, np.split(X, [20, 33])))
    found = rate_distortion(RIGHT, pieces, 3, seed=0)
    same(found, expected, rtol=1e-7)


def test_a_pipeline_is_never_held_as_a_whole():
    alive = []

    class Watched:
        def __iter__(self):
            given = []
            for i in range(20):
                x = data(9, i)
                given.append(weakref.ref(x))
                alive.append(sum(ref() is not None for ref in given))
                yield x
                del x

    rate_distortion(RIGHT, Watched(), 2, batch_size=4)
    assert len(alive) > 20
    assert max(alive) <= 2


@pytest.mark.parametrize(
    ("pipeline", "error", "message"),
    [
        (lambda: iter([X]), TypeError, "empty after once"),
        (lambda: tf_data(X).repeat(), TypeError, "have an end"),
        (lambda: Batches((X, X, X[:, 0])), ValueError, "weights do not enter"),
        (lambda: Batches((X, X[:9])), ValueError, "target of its own"),
        (lambda: Batches(), ValueError, "no batch"),
        (lambda: Batches(X[:9], (X, X)), ValueError, "both kinds"),
        (lambda: Batches(X, X + np.nan), ValueError, "must be finite"),
    ],
)
def test_pipelines_that_are_refused(pipeline, error, message):
    with pytest.raises(error, match=message):
        rate_distortion(RIGHT, pipeline(), 2, batch_size=16)


def test_targets_that_are_refused():
    with pytest.raises(ValueError, match="target of its own"):
        rate_distortion(RIGHT, X, 2, y=X[:9])
    with pytest.raises(ValueError, match="are in its batches"):
        rate_distortion(RIGHT, Batches(X), 2, y=X)
    with pytest.raises(ValueError, match="finite.* in y"):
        rate_distortion(RIGHT, X, 2, y=X + np.nan)
