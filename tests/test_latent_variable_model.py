"""Subclasses of `VAE`, and what is built when."""

import abc

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

from tfp_vae import VAE, layers
from tfp_vae.models import LatentVariableModel

D, L = 6, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, D)).astype("float32")


def networks(built=True):
    encoder = [
        keras.layers.Dense(layers.MultivariateNormalDiag.params_size(L)),
        layers.MultivariateNormalDiag(L),
    ]
    decoder = [
        keras.layers.Dense(layers.IndependentNormal.params_size(D)),
        layers.IndependentNormal(D),
    ]
    if built:
        encoder.insert(0, keras.Input((D,)))
        decoder.insert(0, keras.Input((L,)))
    return keras.Sequential(encoder), keras.Sequential(decoder)


def trained(model):
    model.compile("adam")
    history = model.fit(X, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    return model


def assert_saved(model, path):
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    assert loaded.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)
    return loaded


@keras.saving.register_keras_serializable("tests")
class WithClassifier(VAE):
    """Classifies by z whether the first value is positive."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.extra = keras.layers.Dense(3)

    def compute_terms(self, x, y_pred, training=False):
        terms = super().compute_terms(x, y_pred, training)
        label = ops.cast(x[:, 0] > 0, "int32")
        cross_entropy = keras.losses.sparse_categorical_crossentropy(
            label, self.extra(y_pred[1]), from_logits=True
        )
        return terms._replace(objective=terms.objective - cross_entropy)


def test_a_layer_added_by_a_subclass_trains_and_is_saved(tmp_path):
    model = WithClassifier(*networks(), seed=1)
    assert model.built
    assert model.extra.built  # otherwise Keras could not load its weights
    before = numpy(model.extra.kernel).copy()
    trained(model)
    assert (numpy(model.extra.kernel) != before).any()
    loaded = assert_saved(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(
        numpy(loaded.extra.kernel), numpy(model.extra.kernel)
    )
    model.save_weights(tmp_path / "model.weights.h5")
    other = WithClassifier(*networks())
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        numpy(other.extra.kernel), numpy(model.extra.kernel)
    )


@keras.saving.register_keras_serializable("tests")
class WithBuild(VAE):
    def __init__(self, encoder, decoder, width=3, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.width = width
        self.extra = keras.layers.Dense(width, trainable=False)

    def build(self, input_shape):
        self.extra.build((None, self.width))
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@pytest.mark.parametrize("built", [True, False])
def test_build_of_a_subclass_may_read_its_attributes(built, tmp_path):
    model = WithBuild(*networks(built), width=4)
    assert model.built == built
    trained(model)
    loaded = assert_saved(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(
        numpy(loaded.extra.kernel), numpy(model.extra.kernel)
    )
    clone = keras.models.clone_model(model)
    assert clone.extra.kernel.shape == (4, 4)


@keras.saving.register_keras_serializable("tests")
class Refusing(VAE):
    """Refuses some data, by its own attribute."""

    def __init__(self, encoder, decoder, limit=10.0, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.limit = limit
        self.scorer = keras.layers.Dense(1)

    def compute_terms(self, x, y_pred, training=False):
        if x.shape[0] is not None and x.shape[-1] > self.limit:
            raise ValueError(f"At most {self.limit} values.")
        terms = super().compute_terms(x, y_pred, training)
        return terms._replace(
            objective=terms.objective + 0 * self.scorer(x)[:, 0]
        )

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}


def test_the_look_at_the_data_asks_what_a_subclass_overrides(tmp_path):
    assert_saved(trained(Refusing(*networks())), tmp_path / "model.keras")
    model = Refusing(*networks(), limit=3.0)
    with pytest.raises(ValueError, match=r"At most 3\.0 values"):
        model.check_data(X)
    model.compile("adam")
    with pytest.raises(ValueError, match=r"At most 3\.0 values"):
        model.fit(X, verbose=0)


class Mixin(abc.ABC):  # noqa: B024
    """With its own metaclass and `__init__`, before those of `VAE`."""

    def __init__(self, *args, note=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note


class Mixed(Mixin, VAE):
    def build(self, input_shape):
        super().build(input_shape)
        self.seen = self.note


def test_nothing_is_built_before_the_outermost_init_has_ended():
    assert Mixed(*networks(), note="here").seen == "here"


def test_a_vae_of_built_parts_is_built_at_once():
    model = VAE(*networks())
    assert isinstance(model, LatentVariableModel)
    assert model.built
    assert model.count_params() == sum(w.size for w in model.get_weights())
    assert tuple(model.sample(3).shape) == (3, D)
    assert not VAE(*networks(built=False)).built
