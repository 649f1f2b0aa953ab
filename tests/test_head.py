"""A head is the layer of the right width and the distribution, in one."""

import keras
import numpy as np
import pytest
from support import numpy

from tfp_vae import VAE, Sequential, layers
from tfp_vae.losses import NegativeLogLikelihood

RNG = np.random.default_rng(0)

DISTRIBUTIONS = [
    lambda: layers.IndependentNormal(6),
    lambda: layers.IndependentNormal(6, scale="shared"),
    lambda: layers.IndependentHuber((2, 3), scale=0.5, delta="learned"),
    lambda: layers.IndependentCategorical(3, num_classes=4),
    lambda: layers.MultivariateNormalTriL(3),
    lambda: layers.LowRankMultivariateNormal(4, rank=2),
    lambda: layers.MixtureNormal(3, 2),
    lambda: layers.DiscretizedLogisticMixture((2, 2, 3), 4),
    lambda: layers.Composite(
        [layers.IndependentNormal(2), layers.IndependentBernoulli(())]
    ),
]


@pytest.mark.parametrize("make", DISTRIBUTIONS)
def test_it_is_the_two_layers(make):
    x = RNG.normal(size=(5, 7)).astype("float32")
    head = layers.Head(make())
    found = head(x)
    dense, distribution = (
        keras.layers.Dense(head.distribution.num_parameters),
        make(),
    )
    distribution(dense(x))
    dense.set_weights(head.parameters_layer.get_weights())
    expected = distribution(dense(x))
    assert found.event_shape == expected.event_shape
    assert found.batch_shape == expected.batch_shape
    y = numpy(expected.sample(seed=_seed()))
    np.testing.assert_allclose(
        numpy(found.log_prob(y)), numpy(expected.log_prob(y)), rtol=1e-5
    )


def _seed():
    from tfp_vae.substrate import tfp_seed

    return tfp_seed(0)


def test_of_a_feature_map_it_is_a_convolution():
    x = RNG.normal(size=(5, 4, 6, 3)).astype("float32")
    head = layers.Head(layers.IndependentNormal((4, 6, 2)), kernel_size=3)
    found = head(x)
    assert tuple(found.event_shape) == (4, 6, 2)
    assert head.parameters_layer.kernel.shape == (3, 3, 3, 4)
    again = layers.IndependentNormal((4, 6, 2))(head.parameters_layer(x))
    np.testing.assert_allclose(numpy(found.mean()), numpy(again.mean()))
    with pytest.raises(ValueError, match="of that height and width"):
        layers.Head(layers.IndependentNormal((4, 4, 2)))(x)


def test_it_trains_within_any_model_and_is_saved(tmp_path):
    x = RNG.normal(size=(32, 6)).astype("float32")
    vae = VAE(
        keras.Sequential(
            [keras.Input((6,)), layers.Head(layers.MultivariateNormalDiag(2))]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                layers.Head(layers.IndependentHuber(6, scale="shared")),
            ]
        ),
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(0.01))
    losses = vae.fit(x, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert loaded.evaluate(x, verbose=0) == vae.evaluate(x, verbose=0)
    inputs = keras.Input((6,))
    outputs = layers.Head(layers.IndependentNormal(1))(inputs)
    assert outputs.shape == (None, 1)
    regression = Sequential(
        [keras.Input((6,)), layers.Head(layers.IndependentNormal(1))]
    )
    regression.compile("adam", NegativeLogLikelihood())
    regression.fit(x, x[:, :1], verbose=0)
    assert regression.predict(x, verbose=0).shape == (32, 1)


def test_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = layers.Head(layers.IndependentNormal(2))(
            np.ones((3, 4), "float32")
        )
    finally:
        keras.config.set_dtype_policy(policy)
    assert "float32" in str(found.dtype)


@pytest.mark.parametrize(
    "wrong", [layers.IndependentNormal, keras.layers.Dense(3), 6]
)
def test_what_is_no_distribution_layer_is_refused(wrong):
    with pytest.raises(TypeError, match="an object and not a class"):
        layers.Head(wrong)


def test_a_regularizer_counts_once():
    x = np.ones((3, 4), "float32")
    head = layers.Head(
        layers.IndependentNormal(
            2, activity_regularizer=lambda d: 1.0 + 0.0 * d.mean()[0, 0]
        )
    )
    head(x)
    assert sum(float(numpy(loss)) for loss in head.losses) == 1.0
