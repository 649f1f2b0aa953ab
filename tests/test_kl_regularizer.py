"""The KL divergence in the loss of any model: the true mean, counted once."""

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND, numpy, originals, tfp_originals

from tfp_vae import VAE, layers
from tfp_vae.layers.heads.low_rank import LowRankMultivariateNormal
from tfp_vae.layers.kl_regularizer import (
    KLDivergenceAddLoss,
    KLDivergenceRegularizer,
)
from tfp_vae.losses import NegativeLogLikelihood
from tfp_vae.substrate import tfd

BATCH = 32


def prior(size=2):
    return tfd.MultivariateNormalDiag(
        np.zeros(size, "float32"), np.full(size, 2.0, "float32")
    )


def data(n=BATCH, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)).astype("float32")


def exact(loc, scale, prior_scale=2.0):
    """KL of each of the diagonal Gaussians from N(0, prior_scale), `[B]`."""
    ratio = np.float64(scale) / prior_scale
    distance = np.float64(loc) / prior_scale
    return (0.5 * (ratio**2 + distance**2 - 1) - np.log(ratio)).sum(-1)


def encoder(way, last=layers.MultivariateNormalDiag, **arguments):
    """An encoder with the divergence in its loss, in one of the two ways."""
    head = {"convert_to_tensor_fn": "mean"}
    after = []
    if way == "regularizer":
        head["activity_regularizer"] = KLDivergenceRegularizer(
            prior(), **arguments
        )
    else:
        after = [KLDivergenceAddLoss(prior(), **arguments)]
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(last.params_size(2)),
            last(2, **head),
            *after,
        ]
    )


def mean_exact(model, x):
    q = model(x)
    return exact(numpy(q.mean()), numpy(q.stddev())).mean()


WAYS = pytest.mark.parametrize("way", ["regularizer", "add_loss"])


@WAYS
@pytest.mark.parametrize(
    "last", ["MultivariateNormalDiag", "IndependentNormal"]
)
def test_fit_adds_the_mean_divergence_once(way, last):
    """For any batch, and together with another loss of the model."""
    model = encoder(way, getattr(layers, last), use_exact_kl=True)
    model.add(keras.layers.Dense(1))
    q = keras.Sequential(model.layers[:2])
    x, y = data(), data(width=1, seed=1)
    expected = mean_exact(q, x)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    error = np.square(numpy(model(x)) - y).mean()
    for batch_size in (8, BATCH):
        history = model.fit(
            x, y, batch_size=batch_size, epochs=2, verbose=0
        ).history["loss"]
        np.testing.assert_allclose(history, expected + error, rtol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0), expected + error, rtol=1e-5
    )


@WAYS
def test_weight(way):
    model = encoder(way, use_exact_kl=True, weight=0.25)
    x = data()
    expected = 0.25 * mean_exact(model, x)
    (loss,) = model.losses
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


@WAYS
@pytest.mark.parametrize(
    "points", ["sample", lambda a, seed: a.sample(4, seed=seed)]
)
def test_the_estimate_is_right_on_average(way, points):
    """Within five standard errors, from many copies of one example."""
    model = encoder(way, test_points_fn=points)
    x = np.tile(data(1), (4000, 1))
    q = model(x)
    (loss,) = model.losses
    loc, scale = numpy(q.mean())[0], numpy(q.stddev())[0]
    # log q - log p for draws of N(loc, scale), computed by numpy.
    z = loc + scale * np.random.default_rng(0).normal(size=(100_000, 2))
    ratio = (
        -0.5 * ((z - loc) / scale) ** 2
        - np.log(scale)
        + 0.5 * (z / 2) ** 2
        + np.log(2)
    ).sum(-1)
    error = ratio.std() / np.sqrt(4000)
    assert abs(float(loss) - exact(loc, scale)) < 5 * error
    assert loss.shape == ()


@WAYS
def test_every_step_estimates_with_noise_of_its_own(way):
    """Also where the step is compiled: Keras sees the state of the seed."""
    model = encoder(way)
    x = data()
    model.compile(keras.optimizers.SGD(0.0))
    losses = model.fit(x, batch_size=BATCH, epochs=4, shuffle=False, verbose=0)
    assert len(set(losses.history["loss"])) == 4


def test_batches_of_several_dimensions_are_summed_over_an_example():
    regularizer = KLDivergenceRegularizer(prior(), use_exact_kl=True)
    loc = data(4 * 5, 2).reshape(4, 5, 2)
    q = tfd.MultivariateNormalDiag(loc, np.ones_like(loc))
    expected = exact(loc, np.ones_like(loc)).sum(1).mean()
    np.testing.assert_allclose(float(regularizer(q)), expected, rtol=1e-5)
    one = tfd.MultivariateNormalDiag(loc[0, 0], np.ones(2, "float32"))
    np.testing.assert_allclose(
        float(regularizer(one)), exact(loc[0, 0], np.ones(2)), rtol=1e-5
    )


def test_autoencoder_of_the_tutorial():
    """Encoder, prior in a regularizer, decoder: the loss is minus the ELBO."""
    first = encoder("regularizer", use_exact_kl=True)
    second = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(6), layers.IndependentNormal(3)]
    )
    model = keras.Model(first.inputs[0], second(first.outputs[0]))
    x = data()
    model.compile(keras.optimizers.SGD(0.0), NegativeLogLikelihood())
    model.compute_loss(y=x[:1], y_pred=model(x[:1]))
    found = model.fit(x, x, batch_size=BATCH, verbose=0).history["loss"][0]
    likelihood = second(first(x).mean())
    loc, scale = numpy(likelihood.mean()), numpy(likelihood.stddev())
    log_likelihood = (
        -0.5 * np.square((x - loc) / scale)
        - np.log(scale)
        - 0.5 * np.log(2 * np.pi)
    ).sum(-1)
    expected = mean_exact(first, x) - log_likelihood.mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
def wide_prior():
    return prior()


@keras.saving.register_keras_serializable("tests")
class LearnedTarget(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.add_weight(shape=(2,), initializer="ones", name="loc")
        self.built = True

    def call(self, inputs=None):
        loc = ops.convert_to_tensor(self.loc)
        return tfd.MultivariateNormalDiag(loc, ops.ones_like(loc))


@pytest.mark.parametrize("way", ["regularizer", "add_loss"])
def test_a_learned_prior_trains_and_is_saved(way, tmp_path):
    learned = LearnedTarget()
    after, head = [], {}
    if way == "regularizer":
        head["activity_regularizer"] = KLDivergenceRegularizer(
            learned, use_exact_kl=True
        )
    else:
        after = [KLDivergenceAddLoss(learned, use_exact_kl=True)]
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, trainable=False),
            layers.MultivariateNormalDiag(2, **head),
            *after,
        ]
    )
    assert any(w is learned.loc for w in model.trainable_weights)
    x = data()
    # The gradient is the prior's mean minus that of the posteriors, so that a
    # step of this size reaches the optimum.
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(x, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(
        numpy(learned.loc), numpy(model(x).mean()).mean(0), atol=1e-6
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for network in (model, loaded):
        network(x)
    assert float(loaded.losses[0]) == float(model.losses[0])


@keras.saving.register_keras_serializable("tests")
def four_points(distribution, seed):
    return distribution.sample(4, seed=seed)


@pytest.mark.parametrize("b", [prior(), wide_prior], ids=["object", "function"])
def test_a_file_holds_all_arguments(b, tmp_path):
    arguments = {
        "use_exact_kl": True,
        "test_points_reduce_axis": 0,
        "test_points_fn": four_points,
        "weight": 3,
    }
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            layers.MultivariateNormalDiag(
                2, activity_regularizer=KLDivergenceRegularizer(b, **arguments)
            ),
            KLDivergenceAddLoss(b, **arguments),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = data()
    expected = 3 * mean_exact(model, x)
    loaded(x)
    np.testing.assert_allclose(
        [float(loss) for loss in loaded.losses], [expected] * 2, rtol=1e-5
    )
    regularizer = loaded.layers[1].activity_regularizer
    for name, value in arguments.items():
        assert getattr(regularizer, name) == value


def test_what_cannot_be_saved_says_so():
    for arguments in (
        {"distribution_b": lambda: prior()},
        {"distribution_b": prior(), "test_points_fn": lambda d: d.mean()},
    ):
        with pytest.raises(TypeError, match="register_keras_serializable"):
            KLDivergenceRegularizer(**arguments).get_config()


def test_no_closed_form_is_an_error_or_an_estimate():
    params = data(4, LowRankMultivariateNormal.params_size(2, 1))
    q = LowRankMultivariateNormal(2, 1)(params)
    with pytest.raises(NotImplementedError, match="use_exact_kl=False"):
        KLDivergenceRegularizer(prior(), use_exact_kl=True)(q)
    assert np.isfinite(float(KLDivergenceRegularizer(prior())(q)))


def test_wrong_use():
    q = tfd.MultivariateNormalDiag(np.zeros((4, 3), "float32"))
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        KLDivergenceRegularizer(prior())(q)
    with pytest.raises(TypeError, match="distribution_b is"):
        KLDivergenceRegularizer(2.0)
    with pytest.raises(TypeError, match="Received: float"):
        KLDivergenceRegularizer(lambda: 2.0)(q)
    with pytest.raises(ValueError, match="weight"):
        KLDivergenceRegularizer(prior(), weight="1")
    with pytest.raises(TypeError, match="KLDivergenceAddLoss takes a distr"):
        KLDivergenceAddLoss(prior())(data())
    classes = layers.OneHotCategorical(3)(data())
    uniform = tfd.OneHotCategorical(
        logits=np.zeros(3, "float32"), dtype="float32"
    )
    with pytest.raises(ValueError, match="use_exact_kl=True"):
        KLDivergenceRegularizer(uniform)(classes)
    entropy = numpy(classes.entropy()).astype("float64").mean()
    np.testing.assert_allclose(
        float(KLDivergenceRegularizer(uniform, use_exact_kl=True)(classes)),
        np.log(3) - entropy,
        rtol=1e-5,
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="needs tf.Variable")
def test_variables_that_keras_would_not_see():
    import tensorflow as tf

    b = tfd.MultivariateNormalDiag(tf.Variable([0.0, 0.0]))
    with pytest.raises(ValueError, match="add_weight"):
        KLDivergenceRegularizer(b)


@originals
def test_what_the_originals_add():
    """tfp.layers adds twice the mean, or the sum: we do not."""
    import tf_keras

    tfpl = tfp_originals()
    # In the one class whose divergence TFP knows.
    b = tfd.Independent(tfd.Normal(np.zeros(2, "float32"), 2.0), 1)
    x = data()
    found = {}
    for way in ("regularizer", "add_loss"):
        head, after = {}, []
        if way == "regularizer":
            head["activity_regularizer"] = tfpl.KLDivergenceRegularizer(
                b, use_exact_kl=True
            )
        else:
            after = [tfpl.KLDivergenceAddLoss(b, use_exact_kl=True)]
        model = tf_keras.Sequential(
            [
                tf_keras.layers.InputLayer((3,)),
                tf_keras.layers.Dense(4),
                tfpl.IndependentNormal(2, **head),
                *after,
            ]
        )
        q = model(x)
        true = exact(numpy(q.mean()), numpy(q.stddev())).mean()
        model.compile(tf_keras.optimizers.SGD(0.0), lambda y, q: 0.0 * y)
        history = model.fit(x, x, batch_size=BATCH, verbose=0).history
        found[way] = history["loss"][0] / true
    np.testing.assert_allclose(found["regularizer"], 2.0, rtol=1e-5)
    np.testing.assert_allclose(found["add_loss"], BATCH, rtol=1e-5)


def test_a_vae_refuses_a_second_divergence():
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(5),
            layers.MultivariateNormalTriL(
                2, activity_regularizer=KLDivergenceRegularizer(prior())
            ),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3),
            layers.IndependentNormal(3, scale=1.0),
        ]
    )
    with pytest.raises(ValueError, match="has the KL divergence already"):
        VAE(encoder, decoder)
