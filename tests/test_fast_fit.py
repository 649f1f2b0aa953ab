"""Several steps at once change the speed of training and nothing else."""

import keras
import numpy as np
import pytest
from support import BACKEND, numpy

import tfp_vae
from tfp_vae import VAE, layers
from tfp_vae.training import plan as planning
from tfp_vae.training.data import Data
from tfp_vae.training.follows_batches import follows_batches
from tfp_vae.training.plan import Plan, make_plan
from tfp_vae.training.rows import RowNumbers
from tfp_vae.training.switches import Switches

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


def made(*first, posterior=None, **kwargs):
    keras.utils.set_random_seed(3)
    vae = VAE(
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(4 if posterior is None else 2),
                posterior or layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                *first,
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


@pytest.mark.versions
def test_results_are_those_of_single_steps():
    epochs, counter = Epochs(), Counter()
    several, history = trained([epochs])
    single, by_steps = trained([counter])
    assert epochs.paces == [4, 4]  # of 42 steps; the last one has half a batch
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
    ("chosen", "saved"),
    [
        ({}, {"steps_per_execution": "auto", "jit_compile": "auto"}),
        (
            {"steps_per_execution": 3, "jit_compile": False},
            {"steps_per_execution": 3, "jit_compile": False},
        ),
    ],
)
def test_the_choice_is_saved(chosen, saved, tmp_path):
    vae, _ = trained([], **chosen)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    config = loaded.get_compile_config()
    assert {name: config[name] for name in saved} == saved


def test_what_follows_batches_sees_each(tmp_path):
    callbacks = keras.callbacks
    path = str(tmp_path / "at.keras")
    for callback, follows in (
        (callbacks.EarlyStopping(), False),
        (callbacks.TerminateOnNaN(), False),
        (callbacks.LambdaCallback(on_epoch_end=print), False),
        (callbacks.LambdaCallback(on_train_batch_end=print), True),
        (callbacks.ModelCheckpoint(path), False),
        (callbacks.ModelCheckpoint(path, save_freq=7), True),
        (callbacks.TensorBoard(str(tmp_path)), False),
        (callbacks.TensorBoard(str(tmp_path), update_freq=5), True),
        (Counter(), True),
    ):
        assert follows_batches(callback) is follows, callback
    counter = Counter()
    counter.follows_batches = False
    assert not follows_batches(counter)


def test_steps_of_an_epoch():
    assert Data(X).steps_of_epoch(2, None) == 42
    assert Data(X, X).steps_of_epoch(None, None) == 3
    assert Data(iter([X])).steps_of_epoch(2, None) == 0
    assert Data(iter([X])).steps_of_epoch(2, 100) == 100
    assert Data(Batches([X], 10)).steps_of_epoch(None, None) == 9


def plan(**changes):
    facts = {
        "steps": 42,
        "epochs": 2,
        "stops": [],
        "follows_batches": False,
        "num_bytes": 1000,
        "can_loop": True,
        "loops_pipelines": False,
    }
    return make_plan(**{**facts, **changes})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Plan(4, holds_rows=True)),
        ({"steps": 4000}, Plan(32, True, may_use_xla=True)),
        ({"steps": 4000, "chooses_xla": False}, Plan(32, True)),
        ({"steps": 0}, Plan(1, True)),
        ({"stops": [28, 15]}, Plan(1, True)),
        ({"stops": [30, 15]}, Plan(3, True)),
        ({"follows_batches": True}, Plan(1, True)),
        ({"chosen_steps": 10, "follows_batches": True}, Plan(10, True)),
        ({"num_bytes": None}, Plan(1)),
        ({"num_bytes": None, "loops_pipelines": True}, Plan(4)),
        ({"num_bytes": 2**30 + 1}, Plan(4)),
        ({"can_loop": False}, Plan(1)),
        ({"can_loop": False, "loops_pipelines": True}, Plan(4)),
        ({"switches": Switches(rows=False)}, Plan(4)),
        ({"switches": Switches(loops=False)}, Plan(1, True)),
        ({"steps": 4000, "switches": Switches(xla=False)}, Plan(32, True)),
        (
            {"switches": Switches(convolutions=False)},
            Plan(4, True, fast_convolutions=False),
        ),
    ],
)
def test_the_plan(facts, expected):
    assert plan(**facts) == expected


class Batches(keras.utils.PyDataset):
    """Arrays by Keras' own pipeline, in order."""

    def __init__(self, arrays, size):
        super().__init__()
        self.arrays, self.size = arrays, size

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return tuple(array[rows] for array in self.arrays)


@pytest.mark.parametrize(
    ("given", "pace"),
    [("x", 4), ("x, y", 1), ("x, y, weights", 4), ("x, weights", 4)],
)
def test_data_that_stay_on_the_device_are_the_same_data(given, pace):
    rng = np.random.default_rng(1)
    y = X[:, ::-1].astype("float64") if "y" in given else None
    weights = rng.random(len(X)) if "weights" in given else None
    vae = made(steps_per_execution=pace)
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    found = vae.fit(
        X, y, 5, sample_weight=weights, validation_split=0.2, **options
    ).history
    # The next call sees its own data again.
    found["again"] = vae.train_on_batch(X[:7])
    vae = made(steps_per_execution=1)
    arrays = [X, X if y is None and weights is not None else y, weights]
    arrays = [a.astype("float32") for a in arrays if a is not None]
    expected = vae.fit(
        Batches([array[:66] for array in arrays], 5),
        validation_data=tuple(array[66:] for array in arrays),
        validation_batch_size=5,
        **options,
    ).history
    expected["again"] = vae.train_on_batch(X[:7])
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_each_epoch_has_all_rows_in_an_order_of_its_own():
    numbers = RowNumbers(83, 20, shuffle=True)
    epochs = [np.concatenate([*numbers]) for _ in range(2)]
    assert (epochs[0] != epochs[1]).any()
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(83))
    assert [len(batch) for batch in numbers] == [20, 20, 20, 20, 3]
    assert numbers.num_batches == 5
    assert numbers.partial_batch_size == 3
    keras.utils.set_random_seed(5)
    epochs = [np.concatenate([*numbers])]
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(epochs[0], np.concatenate([*numbers]))
    (first, *_) = RowNumbers(83, 20, shuffle=False)
    np.testing.assert_array_equal(first, np.arange(20))


@pytest.mark.parametrize(
    ("steps", "batch_size", "validation_steps", "pace"),
    [(28, None, None, 2), (30, 2, 15, 3), (31, 2, None, 1)],
)
def test_no_more_steps_are_taken_than_asked(
    steps, batch_size, validation_steps, pace
):
    """Keras takes whole executions, and chooses what is left open."""
    vae, epochs = made(), Epochs()
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)

    vae.fit(
        X,
        batch_size=batch_size,
        steps_per_epoch=steps,
        validation_data=(X,),
        validation_batch_size=2,
        validation_steps=validation_steps,
        callbacks=[epochs, Seen()],
        verbose=0,
    )
    assert int(numpy(vae.optimizer.iterations)) == steps
    assert epochs.paces == [pace]
    if validation_steps:
        assert len(seen) * pace == validation_steps
    found = vae.evaluate(X, batch_size=2, steps=7, verbose=0)
    expected = vae.evaluate(X[:14], batch_size=2, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert vae.steps_per_execution == pace


def test_what_a_subclass_overrides_sees_what_keras_gives():
    sizes = []

    class OwnStep(VAE):
        def train_step(self, *args):
            sizes.append(args[-1].shape[-1])  # x itself, not a tuple
            return super().train_step(*args)

    class OwnFunction(VAE):
        def make_train_function(self, force=False):
            super().make_train_function(force)
            assert self._run.rows is None

    template = made()
    for own in (OwnStep, OwnFunction):
        vae = own(template.encoder, template.decoder)
        vae.compile("adam")
        vae.fit(X, verbose=0)
    assert set(sizes) == {4}


def test_a_model_is_whole_after_an_error():
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("enough")

    vae = made()
    with pytest.raises(RuntimeError, match="enough"):
        vae.fit(X, batch_size=2, epochs=3, verbose=0, callbacks=[Enough()])
    assert vae._run is None
    vae.train_on_batch(X[:3])
    before = int(numpy(vae.optimizer.iterations))
    vae.fit(X[:50], X[:50], batch_size=5, verbose=0)
    assert int(numpy(vae.optimizer.iterations)) == before + 10


class InPython(keras.layers.Layer):
    """A layer that no compiler accepts."""

    def call(self, x):
        import tensorflow as tf

        zero = tf.numpy_function(lambda x: 0.0 * x, [x], x.dtype)
        return x + tf.stop_gradient(tf.ensure_shape(zero, x.shape))


@pytest.mark.versions
@pytest.mark.skipif(BACKEND == "jax", reason="on JAX all is compiled")
@pytest.mark.parametrize("compilable", [True, False])
def test_a_long_fit_is_compiled_and_the_same(compilable, monkeypatch):
    from tfp_vae.training import tensorflow_loop as tf_loop

    asked, own = [], tf_loop._suits_xla

    def suits(step, keeps_assertions):
        asked.append(own(step, keeps_assertions))
        return asked[-1]

    monkeypatch.setattr(tf_loop, "_suits_xla", suits)
    losses = []
    for least, choice in ((0, "auto"), (10**6, "auto"), (0, False)):
        monkeypatch.setattr(planning, "_LONG", least)
        # XLA draws other noise from the same seed: so there is nearly none
        # here.
        vae = made(
            *([] if compilable else [InPython()]),
            posterior=layers.IndependentNormal(2, scale=1e-5),
            jit_compile=choice,
        )
        losses.append(vae.fit(X, batch_size=2, epochs=2, verbose=0).history)
    assert asked == [True]
    for other in losses[1:]:
        for name in ("loss", "log_likelihood"):
            np.testing.assert_allclose(losses[0][name], other[name], rtol=1e-4)


@pytest.mark.skipif(BACKEND == "jax", reason="on JAX all is compiled")
def test_xla_is_not_chosen_where_it_is_slow_or_loses_an_assertion():
    import tensorflow as tf

    from tfp_vae.training.tensorflow_loop import _suits_xla

    def suits(function, keeps_assertions=True):
        image = tf.TensorSpec((2, 5, 5, 1))
        step = tf.function(tf.function(function)).get_concrete_function(image)
        return _suits_xla(step, keeps_assertions)

    def asserts(x):
        tf.debugging.assert_positive(x)
        return x

    assert suits(lambda x: tf.sin(x))
    kernel = tf.ones((2, 2, 1, 1))
    assert not suits(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"))
    assert not suits(asserts)
    assert suits(asserts, keeps_assertions=False)


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


@pytest.mark.parametrize("kind", ["list", "bare", "tuple", "one"])
def test_callbacks_of_any_form(kind):
    epochs = Epochs()
    vae = made()
    history = vae.fit(
        X,
        verbose=0,
        callbacks={
            "list": keras.callbacks.CallbackList(
                [epochs], add_history=True, model=vae
            ),
            "bare": keras.callbacks.CallbackList([epochs], model=vae),
            "tuple": (epochs,),
            "one": epochs,
        }[kind],
    )
    assert len(epochs.paces) == 1
    assert len(history.history["loss"]) == 1


@pytest.mark.versions
@pytest.mark.parametrize("kind", ["sequential", "functional", "subclass"])
def test_any_keras_model_trains_so(kind):
    """The same weights as in plain Keras, step by step."""

    def trained_by(class_, **options):
        keras.utils.set_random_seed(2)
        network = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
        if kind == "sequential":
            model = class_([keras.Input((4,)), *network])
        elif kind == "functional":
            inputs = keras.Input((4,))
            model = class_(inputs, network[1](network[0](inputs)))
        else:

            class Mine(class_):
                def __init__(self):
                    super().__init__()
                    self.network = network

                def call(self, x):
                    return self.network[1](self.network[0](x))

            model = Mine()
        model.compile("adam", "mse", metrics=["mae"], **options)
        epochs = Epochs()
        history = model.fit(
            X,
            X[:, 1:],
            batch_size=2,
            epochs=2,
            shuffle=False,
            validation_split=0.2,
            callbacks=[epochs],
            verbose=0,
        )
        return history.history, model.get_weights(), epochs.paces

    ours = tfp_vae.Sequential if kind == "sequential" else tfp_vae.Model
    theirs = keras.Sequential if kind == "sequential" else keras.Model
    found, weights, paces = trained_by(ours)
    expected, plain, _ = trained_by(theirs)
    assert paces == [4, 4]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4)
    for mine, other in zip(weights, plain, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_arrays_in_a_dict_stay_on_the_device_too():
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    output = keras.layers.Dense(1)(inputs["a"] * inputs["b"])
    model = tfp_vae.Model(inputs, output)
    model.compile("adam", "mse")
    seen = []

    class Rows(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(self.model._run.rows)

    model.fit(
        {"a": X, "b": X}, X[:, :1], batch_size=2, verbose=0, callbacks=[Rows()]
    )
    assert set(seen[0][0]) == {"a", "b"}
    assert seen[0][0]["a"] is seen[0][0]["b"]  # one array, held once


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("good", [0, 2])
def test_nothing_is_lost_by_an_error_in_the_data(method, good):
    class Broken(Batches):
        def __getitem__(self, index):
            if index >= good + 1:  # the first one is checked beforehand
                raise RuntimeError("a torn file")
            return super().__getitem__(index)[0]

    vae = made()
    vae.fit(X, verbose=0)
    before = [numpy(v) for v in vae.trainable_variables]
    options = {"shuffle": False} if method == "fit" else {}
    with pytest.raises(Exception, match="a torn file"):
        getattr(vae, method)(Broken([X], 5), verbose=0, **options)
    for variable, value in zip(vae.trainable_variables, before, strict=True):
        assert numpy(variable).shape == value.shape
        if method != "fit":
            np.testing.assert_array_equal(numpy(variable), value)
    assert np.isfinite(vae.evaluate(X, verbose=0)).all()


@pytest.mark.parametrize("switch", ["rows", "loops", "convolutions"])
def test_each_optimisation_can_be_switched_off(switch):
    found = []
    for switches in (Switches(), Switches(**{switch: False})):
        vae = made()
        vae.switches = switches
        history = vae.fit(X, batch_size=2, shuffle=False, verbose=0).history
        found.append(history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
