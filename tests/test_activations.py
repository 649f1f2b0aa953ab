"""Models warn, once, of a sigmoid or softmax before logits."""

import contextlib
import warnings

import keras
import numpy as np
import pytest

import tfp_vae
from tfp_vae import VAE, layers, losses
from tfp_vae.layers.activations import warn_of_activation
from tfp_vae.substrate import tfd

Dense = keras.layers.Dense
Activation = keras.layers.Activation


class IndependentProbabilities(layers.IndependentLayer):
    parameters = ("probs",)

    def element_distribution(self, probs):
        return tfd.Bernoulli(probs=probs, dtype="float32")


def sequential(*parts):
    return keras.Sequential([keras.Input((4,)), *parts])


def functional(*parts):
    x = inputs = keras.Input((4,))
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def first_as_a_model(*parts):
    return sequential(sequential(*parts[:-1]), parts[-1])


def last_as_a_model(*parts):
    inner = keras.Sequential([keras.layers.Identity(), parts[-1]])
    return functional(*parts[:-1], inner)


def functional_within(*parts):
    return functional(functional(*parts[:-1]), parts[-1])


class Subclass(keras.Model):
    def __init__(self, *parts):
        super().__init__()
        self.inner = sequential(*parts)

    def call(self, x):
        return self.inner(x)


SHAPES = [
    sequential,
    functional,
    first_as_a_model,
    last_as_a_model,
    functional_within,
    Subclass,
]
WRONG = {
    "sigmoid": lambda: (
        Dense(3, "sigmoid"),
        layers.IndependentBernoulli(3),
    ),
    "softmax": lambda: (Dense(3, "softmax"), layers.OneHotCategorical(3)),
    "layer": lambda: (
        Dense(6),
        Activation("sigmoid"),
        layers.IndependentCategorical(2, 3),
    ),
    "softmax_layer": lambda: (
        Dense(3),
        keras.layers.Softmax(),
        layers.OneHotCategorical(3),
    ),
    "reshaped": lambda: (
        Dense(4, "sigmoid"),
        keras.layers.Reshape((2, 2)),
        keras.layers.Flatten(),
        layers.IndependentContinuousBernoulli((2, 2)),
    ),
    "composite": lambda: (
        Dense(5, "sigmoid"),
        layers.Composite(
            [layers.IndependentNormal(2), layers.IndependentBernoulli(())]
        ),
    ),
    "mixture": lambda: (
        Dense(8, "softmax"),
        layers.CategoricalMixtureOfOneHotCategorical(3, 2),
    ),
}
RIGHT = {
    "linear": lambda: (Dense(3), layers.IndependentBernoulli(3)),
    "two_before": lambda: (
        Dense(7, "sigmoid"),
        Dense(3),
        layers.IndependentBernoulli(3),
    ),
    "probabilities": lambda: (Dense(3, "sigmoid"), IndependentProbabilities(3)),
    "sigmoid_before_a_location": lambda: (
        Dense(6, "sigmoid"),
        layers.IndependentNormal(3),
    ),
    "relu": lambda: (Dense(6, "relu"), layers.IndependentNormal(3)),
    "log_softmax": lambda: (
        Dense(3, "log_softmax"),
        layers.OneHotCategorical(3),
    ),
    "head": lambda: (
        Dense(7, "sigmoid"),
        layers.Head(layers.IndependentBernoulli(3)),
    ),
}


@contextlib.contextmanager
def one_warning():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        yield record
    record[:] = [w for w in record if "takes logits" in str(w.message)]
    assert len(record) == 1
    assert record[0].filename == __file__


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", WRONG)
def test_it_warns_once(shape, parts):
    made = WRONG[parts]()
    model = shape(*made)
    with one_warning() as record:
        warn_of_activation(model)
        warn_of_activation(model)
    message = str(record[0].message)
    assert any(repr(layer.name) in message for layer in made)
    assert "Leave the activation out" in message


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", RIGHT)
def test_it_gives_no_false_alarm(shape, parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_activation(shape(*RIGHT[parts]()))


def test_operations_and_branches():
    inputs = keras.Input((4,))
    hidden = Dense(3)(inputs)
    squashed = keras.ops.sigmoid(hidden)
    right = layers.IndependentBernoulli(3)(hidden)
    both = layers.IndependentBernoulli(6)(
        keras.layers.Concatenate()([squashed, hidden])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_activation(keras.Model(inputs, [squashed, right, both]))
    wrong = layers.IndependentBernoulli(3)(squashed)
    with pytest.warns(UserWarning, match="ends in a sigmoid"):
        warn_of_activation(keras.Model(inputs, [right, wrong]))


def test_models_warn_when_they_are_built(tmp_path):
    x = np.float32(np.eye(4))
    with one_warning():
        model = tfp_vae.Sequential([keras.Input((4,)), *WRONG["sigmoid"]()])
        model.compile("sgd", losses.NegativeLogLikelihood())
        model.fit(x, x[:, :3], verbose=0)
        model.save(tmp_path / "model.keras")
    with one_warning():
        keras.saving.load_model(tmp_path / "model.keras")
    with one_warning():
        inner = functional(*WRONG["sigmoid"]())
        tfp_vae.Model(inner.inputs, inner.outputs)


@pytest.mark.parametrize("make", [sequential, functional])
def test_a_vae_warns_of_its_parts(make, tmp_path):
    encoder = sequential(Dense(8), layers.MultivariateNormalDiag(4))
    with one_warning():
        vae = VAE(
            encoder,
            make(Dense(4, "sigmoid"), layers.IndependentBernoulli(4)),
        )
        vae.save(tmp_path / "vae.keras")
    with one_warning():
        keras.saving.load_model(tmp_path / "vae.keras")
