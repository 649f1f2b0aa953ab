"""Several steps at once change the speed of training and nothing else."""

import keras
import numpy as np
import pytest
from support import BACKEND, numpy

from tfp_vae import VAE, layers
from tfp_vae.models.pace import steps_per_execution

X = np.random.default_rng(0).normal(size=(83, 4)).astype("float32")


class Counter(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.paces = []

    def on_epoch_end(self, epoch, logs=None):
        self.paces.append(self.model.steps_per_execution)


def made(**kwargs):
    keras.utils.set_random_seed(3)
    vae = VAE(
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(4),
                layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(8),
                layers.IndependentNormal(4),
            ]
        ),
        seed=1,
    )
    vae.compile(keras.optimizers.Adam(0.01), **kwargs)
    return vae


def trained(callbacks, **kwargs):
    vae = made(**kwargs)
    history = vae.fit(
        X,
        batch_size=2,
        epochs=2,
        validation_data=(X,),
        verbose=0,
        callbacks=callbacks,
    )
    return vae, history.history


def test_results_are_those_of_single_steps():
    epochs, counter = Epochs(), Counter()
    several, history = trained([epochs])
    single, by_steps = trained([counter])
    assert epochs.paces == [4, 4]  # of 42 steps, the last one of half a batch
    assert counter.seen == [*range(42), *range(42)]
    for name, values in by_steps.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    assert int(numpy(several.optimizer.iterations)) == 84
    for ours, theirs in zip(
        several.trainable_variables, single.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-4)
    np.testing.assert_allclose(
        several.evaluate(X, verbose=0), single.evaluate(X, verbose=0), 1e-4
    )
    assert several.predict(X, verbose=0)["kl"].shape == (83,)


def test_a_choice_of_the_user_is_kept(tmp_path):
    counter = Counter()
    vae, _ = trained([counter], steps_per_execution=10)
    assert len(counter.seen) == 10
    assert vae.steps_per_execution == 10


@pytest.mark.parametrize(
    ("chosen", "saved"), [({}, "auto"), ({"steps_per_execution": 3}, 3)]
)
def test_the_choice_is_saved(chosen, saved, tmp_path):
    vae, _ = trained([], **chosen)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert loaded.get_compile_config()["steps_per_execution"] == saved


def test_what_follows_batches_sees_each(tmp_path):
    callbacks, vae = keras.callbacks, made()

    def pace(*given, x=X, steps=None):
        return steps_per_execution(vae, x, 2, steps, list(given))

    assert pace() == 4
    assert pace(x=np.zeros((8000, 1))) == 32
    assert pace(x=iter([X])) == 1  # of unknown length
    assert pace(x=iter([X]), steps=100) == (1 if BACKEND == "jax" else 10)
    assert pace(callbacks.EarlyStopping(), callbacks.TerminateOnNaN()) == 4
    assert pace(callbacks.LambdaCallback(on_epoch_end=print)) == 4
    assert pace(callbacks.LambdaCallback(on_train_batch_end=print)) == 1
    path = str(tmp_path / "at.keras")
    assert pace(callbacks.ModelCheckpoint(path)) == 4
    assert pace(callbacks.ModelCheckpoint(path, save_freq=7)) == 1
    assert pace(callbacks.TensorBoard(str(tmp_path))) == 4
    assert pace(callbacks.TensorBoard(str(tmp_path), update_freq=5)) == 1


@pytest.mark.skipif(BACKEND != "jax", reason="on TensorFlow loops always pay")
def test_a_loop_that_does_not_pay_is_not_chosen():
    assert steps_per_execution(made(), X, 2, None, []) == 4
    eager = made(run_eagerly=True)
    assert steps_per_execution(eager, X, 2, None, []) == 1
    convolutional = VAE(
        keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Conv2D(2, 3),
                keras.layers.Flatten(),
                layers.MultivariateNormalDiag(4),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(32),
                layers.IndependentNormal((4, 4, 1)),
            ]
        ),
    )
    convolutional.compile("adam")
    assert steps_per_execution(convolutional, X, 2, None, []) == 1


@pytest.mark.parametrize("given", ["x", "x, y", "x, y, weights", "x, weights"])
def test_data_that_stay_on_the_device_are_the_same_data(given):
    rng = np.random.default_rng(1)
    data = {
        "y": X[:, ::-1].astype("float64") if "y" in given else None,
        "sample_weight": rng.random(len(X)) if "weights" in given else None,
        "validation_split": 0.2,
    }
    logs = []
    for steps in (4, 1):
        vae = made(steps_per_execution=steps)
        fitted = vae.fit(X, batch_size=5, epochs=2, verbose=0, **data)
        logs.append(fitted.history)
        # What comes next sees its own data again.
        logs[-1]["again"] = vae.train_on_batch(X[:7])
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-5)


def test_data_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="cardinality"):
        made(steps_per_execution=4).fit(X, X[:80], batch_size=5)
    with pytest.raises(ValueError, match=r"must have examples.*of 83"):
        made(steps_per_execution=4).fit(X, validation_split=0.999)


def test_batches_of_other_shapes_keep_their_turn():
    def pipeline():
        for size in (2, 2, 2, 5, 2, 2, 1, 4):
            yield (X[:size],)

    several, single = made(steps_per_execution=4), made(steps_per_execution=1)
    for vae in (several, single):
        vae.fit(pipeline(), steps_per_epoch=8, shuffle=False, verbose=0)
        vae.train_on_batch(X[:3])
    assert int(numpy(several.optimizer.iterations)) == 9
    for ours, theirs in zip(
        several.trainable_variables, single.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-4)
