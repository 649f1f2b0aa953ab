"""A model as a joint distribution, which TFP's samplers accept."""

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from support import numpy

from tfp_vae import VAE, layers
from tfp_vae.evaluation.joint import joint_distribution
from tfp_vae.substrate import jit, tfp, tfp_seed

D, L, NOISE = 4, 2, 0.6
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(L, D)), RNG.normal(size=D)


def model(head=layers.IndependentNormal, built=True, **modes):
    encoder = keras.Sequential(
        [
            *[keras.Input((D,))] * built,
            keras.layers.Dense(2 * L),
            layers.MultivariateNormalDiag(L),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((L,)), keras.layers.Dense(D), head(D, **modes)]
    )
    decoder.layers[0].set_weights([W, B])
    return VAE(encoder, decoder)


@pytest.fixture(scope="module")
def joint():
    return joint_distribution(model(scale=NOISE))


def exact_log_prob(z, x):
    log_prior = scipy.stats.norm.logpdf(z).sum(-1)
    return log_prior + scipy.stats.norm.logpdf(x, z @ W + B, NOISE).sum(-1)


@pytest.mark.parametrize(
    ("z_shape", "x_shape"),
    [
        ((), ()),
        ((5,), (5,)),
        ((3, 5), (3, 5)),
        ((3, 5), (5,)),
        ((3, 5), ()),
        ((), (3, 5)),
        ((5,), (3, 5)),
        ((2, 3, 5), (3, 1)),
    ],
)
def test_log_prob_of_any_leading_dimensions(joint, z_shape, x_shape):
    z = RNG.normal(size=(*z_shape, L)).astype("float32")
    x = RNG.normal(size=(*x_shape, D)).astype("float32")
    exact = exact_log_prob(z, x)
    found = joint.log_prob(z=z, x=x)
    # float32 sums of six terms of up to 100 or so.
    np.testing.assert_allclose(numpy(found), exact, rtol=2e-5, atol=1e-4)
    pinned = joint.experimental_pin(x=x)
    np.testing.assert_allclose(
        numpy(pinned.log_prob(z=z)), exact, rtol=2e-5, atol=1e-4
    )


def test_draws_and_shapes(joint):
    assert {k: tuple(v) for k, v in joint.event_shape.items()} == {
        "z": (L,),
        "x": (D,),
    }
    draws = joint.sample([500, 4], seed=tfp_seed(0))
    z, x = numpy(draws["z"]), numpy(draws["x"])
    assert z.shape == (500, 4, L)
    assert x.shape == (500, 4, D)
    residual = (x - (z @ W + B)) / NOISE
    for values in (z, residual):
        assert scipy.stats.kstest(values.ravel(), "norm").pvalue > 1e-6


def test_a_likelihood_of_outcomes():
    joint = joint_distribution(model(layers.IndependentBernoulli))
    z = RNG.normal(size=(3, 5, L)).astype("float32")
    x = RNG.integers(0, 2, (5, D)).astype("float32")
    probs = scipy.special.expit(z @ W + B)
    exact = scipy.stats.norm.logpdf(z).sum(-1)
    exact += scipy.stats.bernoulli.logpmf(x, probs).sum(-1)
    np.testing.assert_allclose(
        numpy(joint.log_prob(z=z, x=x)), exact, rtol=2e-5
    )


def test_hamiltonian_monte_carlo_finds_the_exact_posterior(joint):
    """Mean and covariance, for two examples at a time, in 50 chains."""
    x = RNG.normal(size=(2, D)).astype("float32")
    covariance = np.linalg.inv(np.eye(L) + W @ W.T / NOISE**2)
    mean = (x - B) @ W.T @ covariance / NOISE**2
    pinned = joint.experimental_pin(x=x)
    chains = 50

    @jit
    def draw(start, seed):
        kernel = tfp.mcmc.HamiltonianMonteCarlo(
            lambda z: pinned.log_prob(z=z), 0.15, num_leapfrog_steps=4
        )
        return tfp.mcmc.sample_chain(
            200,
            start,
            kernel=kernel,
            num_burnin_steps=100,
            trace_fn=None,
            seed=seed,
        )

    z = draw(ops.zeros((chains, 2, L)), tfp_seed(0))
    z = numpy(z).astype("float64")
    # The chains are independent: their spread gives the standard errors.
    for i in range(2):
        own = z[:, :, i]
        means = own.mean(axis=0)
        error = means.std(axis=0, ddof=1) / np.sqrt(chains)
        assert (np.abs(means.mean(axis=0) - mean[i]) < 5 * error).all()
        centred = own - mean[i]
        products = np.einsum("sci,scj->cij", centred, centred) / len(own)
        error = products.std(axis=0, ddof=1) / np.sqrt(chains)
        assert (np.abs(products.mean(0) - covariance) < 5 * error).all()
        assert (error < 0.05 * covariance.max()).all()


def test_a_model_must_be_built():
    with pytest.raises(ValueError, match="not built"):
        joint_distribution(model(built=False, scale=NOISE))
