"""Learned priors of any family, unit vectors, relaxed one-hot vectors."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import tfp_vae
from tests.support import gradients, numpy, sample
from tfp_vae.distributions import Gibbs, kl_divergence
from tfp_vae.layers import (
    AffineCoupling,
    DistributionLambda,
    Head,
    IndependentNormal,
    Mixture,
    MultivariateNormalDiag,
    NormalizingFlow,
    PowerSpherical,
    RelaxedOneHotCategorical,
    TrainableDistribution,
)
from tfp_vae.losses import NegativeLogLikelihood
from tfp_vae.objectives import ELBO, IWAE, LinearWarmup, default_prior
from tfp_vae.substrate import tfd, tfp_seed


def vae_of(posterior, size, prior=None, objective=None):
    encoder = keras.Sequential([keras.Input((4,)), Head(posterior)])
    decoder = keras.Sequential(
        [
            keras.Input(size),
            keras.layers.Flatten(),
            Head(IndependentNormal(4)),
        ]
    )
    vae = tfp_vae.VAE(
        encoder, decoder, prior=prior, objective=objective, seed=0
    )
    vae.compile(keras.optimizers.Adam(0.01))
    return vae


X = np.random.RandomState(0).standard_normal((32, 4)).astype("float32")


def round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


# Any family.


def test_trainable_distribution_begins_as_it_is_told():
    layer = TrainableDistribution(tfd.Gamma, concentration=2.0, rate=[1, 3])
    x = np.array([[0.5, 2.0], [3.0, 0.1]], "float32")
    exact = stats.gamma(2.0, scale=[1, 1 / 3]).logpdf(x).sum(-1)
    assert len(layer.trainable_variables) == 2
    np.testing.assert_allclose(layer(None).log_prob(x), exact, rtol=1e-5)
    again = round_trip(layer)
    np.testing.assert_allclose(again(None).log_prob(x), exact, rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
def quartic_energy(r):
    return r**4


def test_trainable_distribution_of_a_function_is_saved():
    layer = TrainableDistribution(Gibbs, energy=quartic_energy, loc=[0.0, 1.0])
    again = round_trip(layer)
    assert again.parameters["energy"] is quartic_energy
    x = np.float32([0.5, 0.5])
    np.testing.assert_array_equal(
        again(None).log_prob(x), layer(None).log_prob(x)
    )
    unregistered = TrainableDistribution(Gibbs, energy=ops.abs, loc=0.0)
    with pytest.raises(TypeError, match="register_keras_serializable"):
        round_trip(unregistered)


def test_trainable_distribution_trains_to_the_maximum_likelihood():
    x = stats.norm(2.0, 0.5).rvs((512, 1), random_state=0).astype("float32")

    class Density(tfp_vae.Model):
        def __init__(self):
            super().__init__()
            self.layer = TrainableDistribution(tfd.Normal, loc=[0.0], scale=1.0)
            self.built = True

        def call(self, x):
            one = self.layer(None)
            return tfd.BatchBroadcast(one, ops.shape(x)[:1])

    model = Density()
    model.compile(keras.optimizers.Adam(0.05), loss=NegativeLogLikelihood())
    model.fit(x, x, batch_size=512, epochs=300, verbose=0)
    found = model.layer(None)
    np.testing.assert_allclose(found.mean(), [x.mean()], rtol=1e-2)
    np.testing.assert_allclose(found.stddev(), [x.std()], rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"distribution_class": keras.layers.Dense}, TypeError, "saved by"),
        (
            {"distribution_class": tfd.Normal, "loc": 0.0, "scale": -1.0},
            ValueError,
            "scale=-1.0",
        ),
        (
            {"distribution_class": tfd.Normal, "loc": 0.0, "width": 1.0},
            ValueError,
            "width",
        ),
        (
            {
                "distribution_class": tfd.Independent,
                "distribution": tfd.Normal(0.0, 1.0),
            },
            TypeError,
            "numbers and arrays",
        ),
    ],
)
def test_trainable_distribution_tells_mistakes(arguments, error, words):
    with pytest.raises(error, match=words):
        TrainableDistribution(**arguments)


def test_mixture_of_flows_and_families():
    flow = NormalizingFlow(2, [AffineCoupling((4,))])
    normal = TrainableDistribution(tfd.Normal, loc=[3.0, 3.0], scale=1.0)
    prior = Mixture([flow, normal])
    prior.logits.assign(np.log([0.25, 0.75]))
    x = np.array([[0.0, 1.0], [3.0, 2.0]], "float32")
    parts = [stats.norm(m).logpdf(x).sum(-1) for m in (0, 3)]
    exact = special.logsumexp(parts, axis=0, b=[[0.25], [0.75]])
    np.testing.assert_allclose(prior(None).log_prob(x), exact, rtol=1e-5)
    assert round_trip(prior)(None).event_shape == (2,)
    vae = vae_of(MultivariateNormalDiag(2), (2,), prior)
    before = [numpy(w) for w in flow.trainable_variables[-2:]]
    vae.fit(X, verbose=0)
    assert vae.sample(3).shape == (3, 4)
    for weight, value in zip(
        flow.trainable_variables[-2:], before, strict=True
    ):
        assert (numpy(weight) != value).any()
    with pytest.raises(TypeError, match="layers that return"):
        Mixture([tfd.Normal(0.0, 1.0)])


# Unit vectors.


def test_power_spherical_density_and_divergence():
    params = np.array([[0.3, -2.0, 1.0, 2.0]], "float32")
    q = PowerSpherical(3)(params)
    mean, k = params[0, :3].astype("f8"), np.log1p(np.exp(2.0))
    mean /= np.linalg.norm(mean)
    # On the sphere in three dimensions t = m . z has the density
    # (1 + t)**k (k + 1) / 2**(k + 1), and z given t is uniform.
    z = sample(q, 4000)[:, 0].astype("f8")
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, rtol=1e-5)
    exact = k * np.log1p(z @ mean) + np.log(
        (k + 1) / 2 ** (k + 1) / (2 * np.pi)
    )
    np.testing.assert_allclose(
        q.log_prob(z.astype("float32"))[..., 0]
        if len(q.log_prob(z.astype("float32")).shape) > 1
        else q.log_prob(z.astype("float32")),
        exact,
        rtol=1e-3,
        atol=1e-3,
    )
    distribution = lambda t: ((1 + t) / 2) ** (k + 1)  # noqa: E731
    assert stats.kstest(z @ mean, distribution).pvalue > 1e-6
    prior = default_prior(q)
    t = np.linspace(-1, 1, 20001)[1:]
    density = (1 + t) ** k * (k + 1) / 2 ** (k + 1)
    entropy = np.trapezoid(density * np.log(density / 0.5), t)
    np.testing.assert_allclose(kl_divergence(q, prior), [entropy], rtol=1e-3)


def test_power_spherical_gradients_are_finite():
    params = np.array(
        [[0, 0, 0, 0], [1e4, 0, 0, -50], [1, 2, 3, 30]], "float32"
    )

    def divergence(params):
        q = PowerSpherical(3)(params)
        return kl_divergence(q, default_prior(q))

    (found,) = gradients(divergence, params)
    assert np.isfinite(found).all()


def test_power_spherical_draws_have_finite_gradients():
    """Also where t rounds to 1 or -1, as some of TFP's own draws do.

    Densities are finite too, since the gradient in k is log(1 + t).
    """
    k = np.repeat(np.linspace(-10, 10, 21, dtype="float32"), 2000)
    params = np.stack([np.ones_like(k), np.full_like(k, 0.5), k], -1)

    def draws_and_densities(params):
        q = PowerSpherical(2)(params)
        z = q.sample(seed=tfp_seed(0))
        return z[..., 0] + 2.0 * z[..., 1] + q.log_prob(z)

    (found,) = gradients(draws_and_densities, params)
    assert np.isfinite(found).all()


def test_vae_on_the_sphere(tmp_path):
    vae = vae_of(PowerSpherical(3), (3,))
    history = vae.fit(X, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    vae.save(tmp_path / "sphere.keras")
    again = keras.saving.load_model(tmp_path / "sphere.keras")
    found = again.predict(X, verbose=0)
    np.testing.assert_allclose(
        found["kl"], vae.predict(X, verbose=0)["kl"], rtol=1e-5
    )
    assert np.isfinite(vae.marginal_log_likelihood(X[:2], 20, seed=0)[0]).all()


def von_mises_fisher(params):
    mean = params / ops.norm(params, axis=-1, keepdims=True)
    return tfd.VonMisesFisher(mean, ops.ones_like(params[..., 0]))


def test_von_mises_fisher_is_answered_before_training():
    encoder = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3),
            DistributionLambda(von_mises_fisher),
        ]
    )
    decoder = keras.Sequential([keras.Input((3,)), Head(IndependentNormal(4))])
    with pytest.raises(ValueError, match="take layers.PowerSpherical") as error:
        tfp_vae.VAE(encoder, decoder)
    assert "\n" not in str(error.value)


# Relaxed one-hot vectors.

LOGITS = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], "float32")


@pytest.mark.parametrize("straight_through", [False, True])
def test_relaxed_one_hot_divergence_is_that_of_the_categorical(
    straight_through,
):
    layer = RelaxedOneHotCategorical(3, 0.7, straight_through)
    q = layer(LOGITS)
    p = special.softmax(LOGITS.astype("f8"), -1)
    exact = (p * np.log(3 * p)).sum(-1)
    found = kl_divergence(q, default_prior(q))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)
    pairs = RelaxedOneHotCategorical((2, 3), 0.7, straight_through)
    q = pairs(LOGITS.reshape(1, 6))
    found = kl_divergence(q, default_prior(q))
    np.testing.assert_allclose(found, [exact.sum()], rtol=1e-5)


def test_straight_through_draws_are_one_hot_with_the_relaxed_gradient():
    hard = RelaxedOneHotCategorical(3, 0.7, straight_through=True)
    soft = RelaxedOneHotCategorical(3, 0.7)
    weights = np.array([1.0, 2.0, 4.0], "float32")

    def drawn(layer):
        return lambda logits: ops.sum(
            weights * layer(logits).sample(seed=numpy_seed()), axis=-1
        )

    from tfp_vae.substrate import tfp_seed

    def numpy_seed():
        return tfp_seed(0)

    z = sample(hard(LOGITS), 2000)
    assert set(np.unique(z)) == {0.0, 1.0}
    p = special.softmax(LOGITS, -1)
    # Five standard errors of 2000 draws.
    assert (abs(z.mean(0) - p) < 5 * np.sqrt(0.25 / 2000)).all()
    np.testing.assert_allclose(
        gradients(drawn(hard), LOGITS)[0],
        gradients(drawn(soft), LOGITS)[0],
        rtol=1e-5,
        atol=1e-7,
    )
    with pytest.raises(NotImplementedError, match="one-hot"):
        hard(LOGITS).log_prob(z)


# A warning of TFP when it draws classes on JAX.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype .*int64")
def test_temperature_follows_its_schedule_and_is_saved(tmp_path):
    schedule = LinearWarmup(num_steps=4, start=1.0, end=0.5)
    vae = vae_of(RelaxedOneHotCategorical((2, 3), schedule), (2, 3))

    def temperature(model):
        return float(numpy(model.encode(X).distribution.temperature))

    assert temperature(vae) == 1.0
    vae.fit(X, batch_size=16, epochs=1, verbose=0)
    assert temperature(vae) == 0.75
    vae.save(tmp_path / "relaxed.keras")
    again = keras.saving.load_model(tmp_path / "relaxed.keras")
    assert temperature(again) == 0.75
    assert again.sample(3).shape == (3, 4)
    again.fit(X, batch_size=16, epochs=3, verbose=0)
    assert temperature(again) == 0.5


def test_densities_and_probabilities_are_not_mixed():
    vae = vae_of(RelaxedOneHotCategorical(3), (3,), objective=IWAE(2))
    with pytest.raises(ValueError, match=r"tfd\.RelaxedOneHotCategorical"):
        vae.fit(X, verbose=0)
    with pytest.raises(ValueError, match=r"tfd\.RelaxedOneHotCategorical"):
        vae_of(RelaxedOneHotCategorical(3), (3,)).marginal_log_likelihood(X, 2)
    # Against a relaxed prior both are densities.
    prior = tfd.RelaxedOneHotCategorical(0.7, logits=np.zeros(3, "float32"))
    vae = vae_of(RelaxedOneHotCategorical(3), (3,), prior, ELBO())
    assert np.isfinite(vae.fit(X, verbose=0).history["kl"]).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RelaxedOneHotCategorical((2, 3, 4)), r"\(N, K\)"),
        (lambda: RelaxedOneHotCategorical(3, temperature=0.0), "positive"),
        (lambda: RelaxedOneHotCategorical(3)(X), "params_size=3"),
        (lambda: PowerSpherical(1), "at least 2"),
        (lambda: PowerSpherical(4)(X), "params_size=5"),
    ],
)
def test_mistakes_are_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()
