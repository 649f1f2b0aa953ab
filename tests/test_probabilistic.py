"""Models that end in a distribution: regression and classification."""

import keras
import numpy as np
import pytest
import scipy.stats

import tfp_vae
from tfp_vae.layers import (
    IndependentNormal,
    IndependentPoisson,
    OneHotCategorical,
)
from tfp_vae.losses import NegativeLogLikelihood

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]] + RNG.normal(size=(40, 1))).astype("float32")
LABELS = np.eye(4, dtype="float32")[RNG.integers(0, 4, 40)]


def sequential(head, width, built=True):
    return tfp_vae.Sequential(
        [*[keras.Input((3,))] * built, keras.layers.Dense(width), head]
    )


def compiled(model, **kwargs):
    model.compile(
        keras.optimizers.Adam(0.05), loss=NegativeLogLikelihood(), **kwargs
    )
    return model


@pytest.mark.parametrize("built", [True, False])
def test_regression(built, tmp_path):
    model = compiled(
        sequential(IndependentNormal(1, scale=1.0), 1, built), metrics=["mse"]
    )
    history = model.fit(
        X, Y, batch_size=20, epochs=8, validation_data=(X, Y), verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]
    predicted = model.predict(X, verbose=0)
    assert isinstance(predicted, np.ndarray)
    weights, bias = model.get_weights()
    np.testing.assert_allclose(predicted, X @ weights + bias, atol=1e-5)
    loss, mse = model.evaluate(X, Y, verbose=0)
    exact = -scipy.stats.norm.logpdf(Y, X @ weights + bias).sum(1)
    assert loss == pytest.approx(exact.mean(), rel=1e-5)
    assert mse == pytest.approx(np.mean((Y - predicted) ** 2), rel=1e-4)
    assert model(X).stddev().shape == (40, 1)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(again) is tfp_vae.Sequential
    assert again.evaluate(X, Y, verbose=0) == pytest.approx([loss, mse])
    np.testing.assert_array_equal(again.predict(X, verbose=0), predicted)
    more, expected = (
        m.fit(X, Y, shuffle=False, verbose=0).history for m in (again, model)
    )
    assert more["loss"] == pytest.approx(expected["loss"])


def test_classification():
    model = compiled(sequential(OneHotCategorical(4), 4), metrics=["accuracy"])
    model.fit(X, LABELS, verbose=0)
    probabilities = model.predict(X, verbose=0)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    _, accuracy = model.evaluate(X, LABELS, verbose=0)
    hits = probabilities.argmax(1) == LABELS.argmax(1)
    assert accuracy == pytest.approx(hits.mean())


def test_functional_with_several_outputs(tmp_path):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    count = IndependentPoisson(1)(keras.layers.Dense(1)(hidden))
    plain = keras.layers.Dense(1, name="plain")(hidden)
    model = tfp_vae.Model(inputs, {"count": count, "plain": plain})
    counts = RNG.poisson(2.0, (40, 1)).astype("float32")
    model.compile(
        "adam",
        loss={"count": NegativeLogLikelihood(), "plain": "mse"},
        metrics={"plain": ["mae"], "count": ["mae"]},
    )
    y = {"count": counts, "plain": Y}
    model.fit(X, y, batch_size=20, verbose=0)
    found = model.evaluate(X, y, verbose=0, return_dict=True)
    predicted = model.predict(X, verbose=0)
    rate = predicted["count"].astype("float64")
    nll = -scipy.stats.poisson.logpmf(counts, rate).mean()
    mse = np.mean((predicted["plain"] - Y) ** 2)
    assert found["loss"] == pytest.approx(nll + mse, rel=1e-5)
    assert found["count_mae"] == pytest.approx(
        np.abs(rate - counts).mean(), rel=1e-5
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(X, y, verbose=0, return_dict=True) == pytest.approx(
        found
    )


@keras.saving.register_keras_serializable("tests")
class Subclassed(tfp_vae.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)
        self.head = IndependentNormal(1)

    def call(self, x):
        return self.head(self.dense(x))


def batches():
    for start in (0, 20):
        yield X[start : start + 20], Y[start : start + 20]


def test_subclassed_from_a_generator_and_batch_by_batch():
    model = compiled(Subclassed())
    before = model.train_on_batch(X, Y)
    assert model.train_on_batch(X, Y) < before
    assert model.test_on_batch(X, Y) < before
    other = compiled(Subclassed())
    other.fit(batches(), steps_per_epoch=2, shuffle=False, verbose=0)
    assert other.predict(X, verbose=0).shape == (40, 1)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_compiled_or_not(jit_compile):
    model = compiled(
        sequential(IndependentNormal(1, scale="shared"), 1),
        jit_compile=jit_compile,
    )
    model.fit(X, Y, sample_weight=np.ones(40), verbose=0)
    assert model.predict(X, verbose=0).shape == (40, 1)


def test_doubles_a_drawn_head_and_no_targets():
    """What Keras casts, a layer that converts by drawing, a forgotten y."""
    head = IndependentNormal(1, scale=1.0, convert_to_tensor_fn="sample")
    model = compiled(sequential(head, 1), metrics=["mse"])
    model.fit(X.astype("float64"), Y.astype("float64"), verbose=0)
    weights, bias = model.get_weights()
    predicted = model.predict(X, verbose=0)
    np.testing.assert_allclose(predicted, X @ weights + bias, atol=1e-5)
    with pytest.raises(ValueError, match="A likelihood is one of targets"):
        compiled(sequential(IndependentNormal(1), 2)).fit(X, verbose=0)


def test_a_subclass_with_inputs_and_outputs():
    class Mine(tfp_vae.Model):
        pass

    inputs = keras.Input((3,))
    outputs = IndependentNormal(1)(keras.layers.Dense(2)(inputs))
    with pytest.raises(TypeError, match="models.Functional"):
        Mine(inputs, outputs)
    assert isinstance(tfp_vae.Model(inputs, outputs), tfp_vae.models.Functional)
    Subclassed()
