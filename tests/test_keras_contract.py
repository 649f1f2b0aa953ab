"""The parts of private Keras that `keras_internals` uses still exist."""

import itertools
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from support import BACKEND

from tfp_vae import keras_internals

pytestmark = pytest.mark.versions


def model():
    inner = keras.Sequential([keras.layers.Dense(2, name="inner")])
    found = keras.Sequential([keras.Input((3,)), inner])
    found.compile("sgd", "mse")
    return found


def test_inputs_have_their_names():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    listed = keras.Model([b, a], keras.layers.Add()([a, b]))
    found = keras_internals.inputs_by_name(listed)
    assert [*found] == ["b", "a"]
    assert not found.is_dict
    # Keras wants the keys to be the names.
    keyed = keras.Model({"a": a, "b": b}, keras.layers.Add()([a, b]))
    found = keras_internals.inputs_by_name(keyed)
    assert {*found} == {"a", "b"}
    assert found.is_dict
    assert len(keras_internals.inputs_by_name(model())) == 1
    for layer in (keras.layers.Dense(2), keras.Sequential()):
        assert keras_internals.inputs_by_name(layer) is None


def test_an_adapter_feeds_the_trainer():
    class Numbers(keras_internals.DataAdapter):
        def get_tf_dataset(self):
            return self

        def get_jax_iterator(self):
            return iter(self)

        def __iter__(self):
            yield np.ones((4, 3), "float32"), np.ones((4, 2), "float32")

        num_batches = 1
        batch_size = 4
        has_partial_batch = False
        partial_batch_size = None

    assert keras_internals.DataAdapter is not None
    # TensorFlow would need a pipeline: our own loop replaces its function.
    if BACKEND == "jax":
        history = model().fit(Numbers(), verbose=0).history
        assert np.isfinite(history["loss"]).all()


def test_all_layers():
    names = {layer.name for layer in keras_internals.all_layers(model())}
    assert "inner" in names


def test_calls_within():
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2)
    hidden = keras.ops.sigmoid(dense(inputs))
    functional = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    calls = keras_internals.calls_within(functional)
    kinds = [type(called).__name__ for called, _, _ in calls]
    assert kinds == ["InputLayer", "Dense", "Sigmoid", "Dense"]
    for (_, _, (made,)), (_, (taken,), _) in itertools.pairwise(calls):
        assert made is taken
    assert keras_internals.calls_within(dense) == []


def test_arguments_stay_as_they_are():
    class Likes(keras.layers.Layer):
        def call(self, x, other=None):
            return type(other)

    layer = Likes()
    x, other = keras.ops.ones((1, 2)), np.ones((1, 2), "float32")
    assert layer(x, other=other) is not np.ndarray
    keras_internals.leave_arguments_as_they_are(layer)
    assert layer(x, other=other) is np.ndarray


def test_the_validation_of_fit_is_told():
    seen = []

    class Mine(keras.Sequential):
        def evaluate(self, *args, **kwargs):
            seen.append(keras_internals.is_validation_of_fit(kwargs))
            return super().evaluate(*args, **kwargs)

    mine = Mine([keras.Input((3,)), keras.layers.Dense(2)])
    mine.compile("sgd", "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    mine.fit(x, y, validation_data=(x, y), verbose=0)
    mine.evaluate(x, y, verbose=0)
    assert seen == [True, False]


def test_a_variable_without_a_value():
    (kernel, _) = model().weights
    assert keras_internals.has_value(kernel)
    if BACKEND == "jax":
        kernel.value.delete()
        assert not keras_internals.has_value(kernel)
        kernel._value = None
        assert not keras_internals.has_value(kernel)


def test_arguments_of_a_loss():
    found = keras_internals.arguments_of_loss(keras.losses.Huber(delta=2.0))
    assert found["delta"] == 2.0


def in_a_new_process(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_message_is_kept():
    class Fails(keras.layers.Layer):
        def call(self, x):
            error = ValueError("as it is")
            keras_internals.keep_message(error)
            raise error

    with pytest.raises(ValueError, match=r"^as it is$"):
        Fails()(np.ones((1, 2)))


def test_an_older_or_newer_keras_is_no_reason_to_fail():
    """Without the adapter, and without a loss, all works, only slower."""
    done = in_a_new_process("""

        import sys
        import keras, numpy as np
        sys.modules["keras.src.trainers.data_adapters.data_adapter"] = None
        for name in ("Circle", "Tversky"):
            delattr(keras.losses, name)
        from tfp_vae import VAE, layers, losses
        encoder = keras.Sequential([
            keras.Input((4,)), keras.layers.Dense(4),
            layers.MultivariateNormalDiag(2)])
        decoder = keras.Sequential([
            keras.Input((2,)), keras.layers.Dense(8),
            layers.IndependentNormal(4)])
        vae = VAE(encoder, decoder)
        vae.compile("adam")
        x = np.random.default_rng(0).normal(size=(83, 4)).astype("float32")
        history = vae.fit(x, epochs=2, verbose=0, validation_split=0.2)
        assert np.isfinite(history.history["val_loss"]).all()
        losses.likelihood_from_loss("huber")
        print("trained")
    """)
    assert done.stdout.strip().endswith("trained"), done.stderr


@pytest.mark.parametrize("jit_compile", ["yes", 1])
def test_small_silences(jit_compile):
    import tfp_vae

    mine = tfp_vae.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match='jit_compile is True, False or "auto'):
        mine.compile("sgd", "mse", jit_compile=jit_compile)
    for steps in (0, -1, 2.5):
        with pytest.raises(ValueError, match="steps_per_execution is an int"):
            mine.compile("sgd", "mse", steps_per_execution=steps)
    mine.compile("sgd", "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    for name in ("batch_size", "epochs", "steps_per_epoch", "validation_steps"):
        with pytest.raises(ValueError, match=f"{name} is an int >= 1.*-1"):
            mine.fit(x, y, verbose=0, **{name: -1})
    for function in (mine.evaluate, mine.predict):
        with pytest.raises(ValueError, match="batch_size is an int >= 1"):
            function(x, batch_size=0, verbose=0)
