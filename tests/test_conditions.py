"""Data in a dict: conditions of encoder, decoder and prior."""

import functools

import keras
import linear
import numpy as np
import pytest
from keras import ops
from support import numpy

from tfp_vae import VAE, evaluation, layers
from tfp_vae.callbacks import PosteriorCollapse
from tfp_vae.objectives import IWAE
from tfp_vae.substrate import tfd, tfp_seed

X, LABEL = linear.data(missing=0.0)
DATA = {"x": X, "label": LABEL}
EXACT = linear.log_prob(X, linear.B + linear.V[LABEL])


# The model in which everything is known. Float32: 1e-4 of numbers of order 10.


@pytest.fixture(scope="module")
def exact():
    vae = VAE(
        linear.ConditionalEncoder(),
        linear.ConditionalDecoder(),
        objective=IWAE(3),
        seed=0,
    )
    vae.compile("sgd")
    return vae


def test_densities_are_exact(exact):
    loss = exact.evaluate(DATA, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(-EXACT.mean(), abs=1e-4)
    found = exact.marginal_log_likelihood(DATA, num_samples=25, seed=0)
    np.testing.assert_allclose(found.log_likelihood, EXACT, atol=1e-4)
    elbo = evaluation.rate_distortion(exact, DATA, num_samples=4000, seed=0)
    np.testing.assert_allclose(elbo.elbo, EXACT, atol=0.1)
    annealed = evaluation.annealed_importance_sampling(
        exact, DATA, num_steps=60, seed=0
    )
    # 16 chains of 60 steps: their spread is some tenths of a nat.
    np.testing.assert_allclose(annealed.log_likelihood, EXACT, atol=0.7)


def test_another_condition_is_another_density(exact):
    other = (LABEL + 1) % linear.C
    found = exact.marginal_log_likelihood({"x": X, "label": other}, seed=0)
    expected = linear.log_prob(X, linear.B + linear.V[other])
    np.testing.assert_allclose(found.log_likelihood, expected, atol=1e-4)


def test_gaps_and_conditions_together():
    x, label = linear.data()
    vae = VAE(
        linear.ConditionalEncoder(),
        linear.ConditionalDecoder(),
        missing_values=np.nan,
    )
    data = {"x": x, "label": label}
    mean = linear.B + linear.V[label]
    found = vae.marginal_log_likelihood(data, num_samples=25, seed=0)
    np.testing.assert_allclose(
        found.log_likelihood, linear.log_prob(x, mean), atol=1e-4
    )
    filled = vae.impute(data, num_samples=2000, seed=0)
    expected, covariance = linear.conditional(x[3], mean[3])
    error = 5 * np.sqrt(np.diag(covariance) / 2000)
    assert (np.abs(filled[3][np.isnan(x[3])] - expected) < error).all()
    with pytest.raises(ValueError, match="condition has no missing values"):
        vae.evaluate({"x": x, "label": np.where(label == 0, np.nan, label)})


def test_samples_and_counterfactuals(exact):
    drawn = numpy(exact.sample(2000, label=1, seed=0))
    mean = linear.B + linear.V[1]
    # Five standard errors.
    error = 5 * np.sqrt(np.diag(linear.COVARIANCE) / 2000)
    assert (np.abs(drawn.mean(axis=0) - mean) < error).all()
    z = exact.encode(DATA).mean()
    change = numpy(exact.decode(z, label=2).mean()) - numpy(
        exact.decode(z, label=LABEL).mean()
    )
    np.testing.assert_allclose(
        change, linear.V[2] - linear.V[LABEL], rtol=1e-4, atol=1e-5
    )
    joint = exact.joint_distribution(label=1).sample(5, seed=tfp_seed(0))
    assert joint["x"].shape == (5, linear.D)


# Parts of all kinds.


def functional(own, size, head, names=("label",), as_dict=False):
    """Dense layers of x (or z) and of an embedding of each condition."""
    inputs = {own: keras.Input((size,), name=own)}
    inputs |= {n: keras.Input((), dtype="int32", name=n) for n in names}
    parts = [inputs[own]]
    parts += [keras.layers.Embedding(3, 4)(inputs[n]) for n in names]
    hidden = keras.layers.Dense(8, "tanh")(keras.layers.Concatenate()(parts))
    return keras.Model(
        inputs if as_dict else [*inputs.values()], layers.Head(head)(hidden)
    )


def encoder(**kwargs):
    return functional("x", linear.D, layers.MultivariateNormalDiag(2), **kwargs)


def decoder(**kwargs):
    return functional("z", 2, layers.IndependentNormal(linear.D), **kwargs)


def plain_encoder():
    return keras.Sequential(
        [
            keras.Input((linear.D,)),
            layers.Head(layers.MultivariateNormalDiag(2)),
        ]
    )


def plain_decoder():
    return keras.Sequential(
        [keras.Input((2,)), layers.Head(layers.IndependentNormal(linear.D))]
    )


def functional_prior():
    label = keras.Input((), dtype="int32", name="label")
    hidden = keras.layers.Embedding(3, 4)(label)
    return keras.Model(
        label, layers.Head(layers.MultivariateNormalDiag(2))(hidden)
    )


@keras.saving.register_keras_serializable("tests")
class Prior(keras.layers.Layer):
    """A mean for each class."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loc = self.add_weight(shape=(3, 2), name="loc")
        self.built = True

    def call(self, label):
        loc = ops.take(ops.convert_to_tensor(self.loc), label, axis=0)
        return tfd.MultivariateNormalDiag(loc, ops.ones_like(loc))


@keras.saving.register_keras_serializable("tests")
class SubclassedDecoder(keras.Model):
    """Asks for a condition by an argument of `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(3, 4)
        self.head = layers.Head(layers.IndependentNormal(linear.D))

    def call(self, z, label, training=None):
        both = ops.concatenate([z, self.embedding(label)], axis=-1)
        return self.head(both)


MODELS = {
    "encoder": lambda: (encoder(), plain_decoder(), None),
    "decoder": lambda: (plain_encoder(), decoder(as_dict=True), None),
    "both, as dicts": lambda: (encoder(as_dict=True), decoder(), None),
    "prior": lambda: (plain_encoder(), plain_decoder(), functional_prior()),
    "subclasses": lambda: (plain_encoder(), SubclassedDecoder(), Prior()),
    "a mixture": lambda: (
        plain_encoder(),
        decoder(),
        layers.MixturePrior(3, 2),
    ),
    "a VampPrior": lambda: (
        plain_encoder(),
        decoder(),
        layers.VampPrior(3, linear.D),
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_each_part_is_called_with_what_it_asks_for(kind, tmp_path):
    enc, dec, prior = MODELS[kind]()
    vae = VAE(enc, dec, prior=prior, seed=0)
    vae.compile("adam")
    vae.fit(DATA, epochs=2, batch_size=4, verbose=0, validation_data=(DATA,))
    # The dict stays on the device.
    assert vae._made.key[0].holds_rows
    # A condition of the encoder alone has no use in a sample.
    given = {} if kind == "encoder" else {"label": [0, 1, 2]}
    arrays = {name: np.array(value) for name, value in given.items()}
    drawn = numpy(vae.sample(3, **given, seed=0))
    assert drawn.shape == (3, linear.D)
    np.testing.assert_array_equal(numpy(vae.sample(3, **arrays, seed=0)), drawn)
    path = tmp_path / "model.keras"
    vae.save(path)
    loaded = keras.saving.load_model(path)
    assert loaded.evaluate(DATA, verbose=0) == pytest.approx(
        vae.evaluate(DATA, verbose=0), rel=1e-6
    )
    np.testing.assert_allclose(
        numpy(loaded.sample(3, **given, seed=0)), drawn, rtol=1e-5
    )


class Stops(keras.callbacks.Callback):
    """Ends training in the third epoch, as a kill would."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2:
            raise KeyboardInterrupt


def test_a_run_on_a_dict_with_gaps_resumes(tmp_path):
    x = X.copy()
    x[::2, 0] = np.nan
    data = {"x": x, "label": LABEL}

    def losses(*callbacks):
        vae = VAE(encoder(), decoder(), seed=0, missing_values=np.nan)
        vae.compile("adam")
        return vae.fit(
            data,
            epochs=4,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        ).history["loss"]

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    keras.utils.set_random_seed(0)
    whole = losses()
    keras.utils.set_random_seed(0)
    with pytest.raises(KeyboardInterrupt):
        losses(Stops(), backup())
    assert losses(backup()) == pytest.approx(whole[2:], rel=1e-5)


def test_every_entry_point_takes_a_dict():
    vae = VAE(encoder(), decoder(), seed=0)
    vae.compile("adam")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = slice(4 * index, 4 * index + 4)
            return ({"x": X[rows], "label": LABEL[rows]},)

    watch = PosteriorCollapse(DATA)
    history = vae.fit(
        DATA,
        X,
        epochs=2,
        verbose=0,
        sample_weight=np.ones(len(X)),
        validation_data=Batches(),
        callbacks=[watch],
    ).history
    assert {"val_loss", "active_units"} <= history.keys()
    vae.fit(Batches(), verbose=0)
    vae.train_on_batch(DATA)
    vae.test_on_batch(DATA)
    whole = vae.evaluate(DATA, batch_size=4, verbose=0)
    assert vae.evaluate(Batches(), verbose=0) == pytest.approx(whole, rel=1e-5)
    predicted = vae.predict(DATA, verbose=0)
    np.testing.assert_allclose(
        predicted["mean"], numpy(vae.reconstruct(DATA)), rtol=1e-5, atol=1e-6
    )
    found = vae.marginal_log_likelihood(DATA, num_samples=10, seed=0)
    by_batch = vae.marginal_log_likelihood(Batches(), num_samples=10, seed=0)
    np.testing.assert_array_equal(found[0], by_batch[0])
    assert evaluation.kl_per_dimension(vae, DATA).shape == (len(X), 2)
    assert evaluation.active_units(vae, DATA).variance.shape == (2,)
    assert np.isfinite(evaluation.aggregate_posterior(vae, DATA)).all()
    found = evaluation.probability_integral_transform(vae, DATA)
    assert found.values.shape == X.shape


def test_images_and_vectors_and_mixed_precision():
    """Conditions of several shapes and dtypes."""
    rng = np.random.default_rng(0)
    data = {
        "x": rng.normal(size=(8, 4)).astype("float32"),
        "image": rng.integers(0, 255, (8, 5, 5, 1)).astype("uint8"),
        "age": rng.normal(size=(8, 2)),  # float64, as numpy has it
    }
    keras.config.set_dtype_policy("mixed_float16")
    try:
        x = keras.Input((4,), name="x")
        image = keras.Input((5, 5, 1), name="image")
        age = keras.Input((2,), name="age")
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        both = keras.layers.Concatenate()([x, flat, age])
        enc = keras.Model(
            [x, image, age],
            layers.Head(layers.MultivariateNormalDiag(2))(both),
        )
        z = keras.Input((2,), name="z")
        age = keras.Input((2,), name="age")
        both = keras.layers.Concatenate()([z, age])
        dec = keras.Model(
            [z, age], layers.Head(layers.IndependentNormal(4))(both)
        )
        vae = VAE(enc, dec)
    finally:
        keras.config.set_dtype_policy("float32")
    vae.compile("adam")
    losses = vae.fit(data, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    # One value for all rows is a vector here.
    assert vae.sample(3, age=[0.1, 0.2]).shape == (3, 4)


@keras.saving.register_keras_serializable("tests")
class Own(VAE):
    """Overrides the methods that take data."""

    calls = 0

    def encode(self, x, training=None):
        type(self).calls += 1
        assert set(x) == {"x", "label"}
        return super().encode({"x": x["x"]}, training=training)

    def decode(self, z, training=None, label=None):
        assert label is not None
        return super().decode(z, training=training)


def test_overrides_of_a_subclass_are_what_is_called():
    vae = Own(plain_encoder(), plain_decoder())
    vae.compile("adam")
    vae.fit(DATA, verbose=0)
    before = Own.calls
    vae.marginal_log_likelihood(DATA, num_samples=10)
    vae.predict(DATA, verbose=0)
    assert Own.calls > before


# Errors; each message names the entry.


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (X, ValueError, "encoder asks for the entry 'label'"),
        ({"label": LABEL}, ValueError, r'have the entry "x"'),
        ({**DATA, "age": LABEL}, ValueError, "'age', which none of them asks"),
        ({"x": X, "label": LABEL[:3]}, ValueError, "label of 3 rows"),
        ({"x": X, "label": LABEL + 0.5}, TypeError, "'label' as int32"),
        ({"x": X, "label": [*"abcdefgh"]}, TypeError, "list .* as label"),
        ({"x": X, "label": X}, ValueError, "'label' in the shape"),
        (
            {"x": X, "label": np.where(LABEL == 0, np.nan, 1.0)},
            ValueError,
            "condition has no missing values",
        ),
        ({**DATA, "seed": LABEL}, ValueError, "name that can be an argument"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, error, words):
    vae = VAE(encoder(), decoder())
    vae.compile("adam")
    with pytest.raises(error, match=words):
        vae.fit(data, verbose=0)
    if not isinstance(data, dict) or "x" in data:
        with pytest.raises((TypeError, ValueError)):
            vae.marginal_log_likelihood(data)


def test_conditions_of_methods_are_checked():
    vae = VAE(encoder(), decoder())
    z = np.zeros((4, 2), "float32")
    for call, words in (
        (lambda: vae.sample(3), "decoder asks for the entry 'label'"),
        (lambda: vae.sample(3, label=[0, 1]), r"shape \(2,\), for 3 examples"),
        (lambda: vae.sample(3, lable=1), "'lable', which none"),
        (lambda: vae.decode(z), "decoder asks for the entry 'label'"),
        (lambda: vae.decode(z, label=[0, 1]), r"for 4 examples"),
        (lambda: vae.encode(X), "encoder asks for the entry 'label'"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="label of dtype"):
        vae.sample(3, label="cat")
    # A draw cannot use a condition of the encoder alone.
    enc, dec, prior = MODELS["encoder"]()
    vae = VAE(enc, dec, prior=prior)
    for draw in (vae.joint_distribution, functools.partial(vae.sample, 3)):
        with pytest.raises(ValueError, match="'label', which none"):
            draw(label=1)


class Adds(keras.layers.Layer):
    """q(z|x, c), with any conditions added to x."""

    def call(self, x, c):
        mean = x[:, :2] + ops.cast(c, "float32")[..., None]
        return tfd.MultivariateNormalDiag(mean, [1.0, 1.0])


def of_vector(own, size, head, event):
    c = keras.Input(event, name="c")
    first = keras.Input((size,), name=own)
    both = keras.layers.Concatenate()([first, c])
    return keras.Model([first, c], layers.Head(head)(both))


def of_c(event):
    return VAE(
        of_vector("x", 4, layers.MultivariateNormalDiag(2), event),
        of_vector("z", 2, layers.IndependentNormal(4), event),
    )


def test_data_have_a_row_of_the_right_shape_for_each_example():
    x = np.zeros((8, 4), "float32")
    vae = of_c((4,))
    vae.compile("sgd")
    # A vector of the shape of one row is one value for all in `sample` only.
    for c in (np.arange(8.0), np.zeros((8, 3))):
        with pytest.raises(ValueError, match="'c' in the shape"):
            vae.fit({"x": x, "c": c}, batch_size=4, verbose=0)
    assert vae.sample(3, c=np.arange(4.0)).shape == (3, 4)


def test_labels_are_taken_for_a_column_of_them():
    x = np.zeros((8, 4), "float32")
    vae = of_c((1,))
    vae.compile("sgd")
    c = np.arange(8.0, dtype="float32")
    vae.fit({"x": x, "c": c}, batch_size=4, verbose=0)
    found = [
        numpy(vae.encode({"x": x, "c": given}).mean())
        for given in (c, c[:, None])
    ]
    np.testing.assert_array_equal(*found)
    for given in (c, 1.0, [1.0]):
        assert vae.sample(8, c=given).shape == (8, 4)
    with pytest.raises(ValueError, match="one row for each example"):
        vae.sample(3, c=c)


def test_a_condition_has_the_dtype_and_rank_that_a_subclass_was_built_for():
    vae = VAE(Adds(), plain_decoder())
    x = np.zeros((3, linear.D), "float32")
    c = np.arange(3, dtype="int32")
    found = [
        numpy(vae.encode({"x": x, "c": given}).mean())
        for given in (vae({"x": x, "c": c}) and c, c[:, None])
    ]
    np.testing.assert_array_equal(*found)
    with pytest.raises(TypeError, match="'c' as int32"):
        vae.encode({"x": x, "c": c + 0.5})
    with pytest.raises(ValueError, match="one value for all"):
        vae.encode({"x": x, "c": np.zeros((3, 2), "int32")})
    # The decoder takes only z.
    with pytest.raises(ValueError, match="used by decoder"):
        vae.sample(2, c=1)


def test_a_vamp_prior_of_a_conditional_encoder(tmp_path):
    labels = np.arange(2, dtype="int32")
    vae = VAE(
        linear.ConditionalEncoder(),
        linear.ConditionalDecoder(),
        layers.VampPrior(2, linear.D, conditions={"label": labels}),
    )
    vae.compile("adam")
    vae(DATA)
    z = vae.encode(DATA).sample(seed=tfp_seed(0))
    pseudo = {"x": numpy(vae.prior.pseudo_inputs), "label": labels}
    # The mixture of the two posteriors, in float32.
    each = numpy(vae.encode(pseudo).log_prob(z[:, None]))
    expected = np.logaddexp(each[:, 0], each[:, 1]) - np.log(2)
    prior = vae.prior_distribution(vae.encode(DATA))
    np.testing.assert_allclose(numpy(prior.log_prob(z)), expected, rtol=1e-4)
    vae.fit(DATA, epochs=1, verbose=0)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(
        loaded.evaluate(DATA, verbose=0),
        vae.evaluate(DATA, verbose=0),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="one condition for each"):
        layers.VampPrior(3, linear.D, conditions={"label": labels})
