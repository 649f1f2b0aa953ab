"""`tfp_vae.tfp_layers` in the place of `tfp.layers`: names, manners, a corpus.

Each part of the corpus is written in a manner that is found in public code.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy, originals, tfp_originals

import tfp_vae
import tfp_vae.tfp_layers as tfpl
from tfp_vae import layers
from tfp_vae.losses import scaled_kl
from tfp_vae.substrate import tfd, tfp

RNG = np.random.default_rng(0)
N = 32
X = RNG.normal(size=(N, 3)).astype("float32")
LINE = X[:, 0] + RNG.normal(size=N).astype("float32")
IMAGES = RNG.integers(0, 2, (N, 4, 4, 1)).astype("float32")
LABELS = np.eye(3, dtype="float32")[RNG.integers(0, 3, N)]


def negloglik(y, rv_y):
    return -rv_y.log_prob(y)


@originals
def test_all_names():
    names = {
        name
        for name in dir(tfp_originals())
        if not name.startswith("_")
        and not inspect.ismodule(getattr(tfp_originals(), name))
    }
    assert len(names) == 30
    assert names == set(tfpl.__all__)


@originals
@pytest.mark.parametrize("name", tfpl.__all__)
def test_the_arguments_of_the_original_come_first(name):
    def arguments(thing):
        return [
            parameter
            for parameter in inspect.signature(thing).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]

    found = arguments(getattr(tfpl, name))
    expected = arguments(getattr(tfp_originals(), name))
    assert [p.name for p in found][: len(expected)] == [
        p.name for p in expected
    ]
    for ours, theirs in zip(found, expected, strict=False):
        if isinstance(theirs.default, (int, float, str, bool)):
            # One stride stands for one in each dimension.
            assert ours.default == theirs.default
        if theirs.default is theirs.empty:
            assert ours.default is ours.empty


@originals
def test_same_tensor_as_the_tfp_originals():
    params = RNG.normal(size=(5, 6)).astype("float32")
    bernoulli = tfd.Bernoulli.logits
    for name, arguments in [
        ("IndependentBernoulli", ((3, 2), bernoulli)),
        ("IndependentNormal", (3, tfd.Distribution.stddev)),
        ("OneHotCategorical", (6, "mean")),
    ]:
        found = getattr(tfpl, name)(*arguments)(params)
        expected = getattr(tfp_originals(), name)(*arguments)(params)
        assert tuple(found.shape) == tuple(expected.shape)
        np.testing.assert_allclose(
            found.numpy(), numpy(ops.convert_to_tensor(expected)), rtol=1e-5
        )


# Manners.


def test_a_distribution_is_a_tensor():
    head = tfpl.IndependentNormal(2, tfd.Distribution.mean)
    params = RNG.normal(size=(4, 4)).astype("float32")
    d = head(params)
    loc = params[:, :2]
    assert isinstance(d, tfd.Independent)
    assert tuple(d.shape) == (4, 2)
    for found, expected in [
        (d, loc),
        (d + 1, loc + 1),
        (2 - d, 2 - loc),
        (-d * d, -loc * loc),
        (d / 2, loc / 2),
        (abs(d), abs(loc)),
        (d**2, loc**2),
        (d @ np.eye(2, dtype="float32"), loc),
        (d > 0, loc > 0),
        (ops.sum(d, 0), loc.sum(0)),
        (np.asarray(d), loc),
        (d.numpy(), loc),
    ]:
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5)
    # Draws need no seed, and are others each time.
    assert (numpy(d.sample()) != numpy(d.sample())).all()
    for plain in (d.tensor_distribution, d.copy(), d[:2]):
        assert not hasattr(plain, "__array__")
    np.testing.assert_array_equal(
        numpy(d.tensor_distribution.log_prob(loc)), numpy(d.log_prob(loc))
    )


def test_validate_args_and_sample_dtype():
    params = np.zeros((4, 6), "float32")
    d = tfpl.IndependentBernoulli(6, "sample", "int32", True)(params)
    assert keras.backend.standardize_dtype(d.dtype) == "int32"
    assert d.validate_args
    assert d.distribution.validate_args
    d = tfpl.CategoricalMixtureOfOneHotCategorical(2, 2, "mean", "int32")(
        params
    )
    components = d.components_distribution
    assert keras.backend.standardize_dtype(components.dtype) == "int32"
    d = tfpl.MixtureNormal(2, validate_args=True)(params)
    assert d.components_distribution.distribution.validate_args
    layer = tfpl.IndependentPoisson(3, validate_args=True)
    again = tfpl.IndependentPoisson.from_config(layer.get_config())
    assert again.validate_args
    with pytest.raises(TypeError, match="by position"):
        tfpl.IndependentNormal(1, "mean", False, 3)
    with pytest.raises(TypeError, match="by position"):
        tfpl.IndependentNormal(1, event_shape=2)


def test_new():
    params = RNG.normal(size=(4, 6)).astype("float32")
    made = tfpl.IndependentNormal.new(params, 3)
    np.testing.assert_array_equal(
        numpy(made.mean()), numpy(layers.IndependentNormal(3)(params).mean())
    )

    class Laplace(tfpl.IndependentNormal):
        @staticmethod
        def new(params, event_shape=(), validate_args=False, name=None):
            loc, scale = ops.split(params, 2, axis=-1)
            return tfd.Independent(tfd.Laplace(loc, ops.exp(scale)), 1)

    assert isinstance(Laplace(3)(params).distribution, tfd.Laplace)


def test_losses_and_metrics_of_a_users_own(tmp_path):
    """Functions and objects are given the distribution, saved by name."""

    def mean_error(y, rv_y):
        return ops.abs(y - rv_y)

    class Likelihood(keras.metrics.Mean):
        def update_state(self, y, rv_y, sample_weight=None):
            return super().update_state(rv_y.log_prob(y), sample_weight)

    class Loss(keras.losses.Loss):
        def call(self, y, rv_y):
            return -rv_y.log_prob(y)

    expected = None
    for head in (layers.DistributionLambda, tfpl.DistributionLambda):
        model = tfp_vae.Sequential(
            [keras.layers.Dense(1), head(lambda t: tfd.Normal(t, 1.0))]
        )
        for loss in (negloglik, lambda y, rv_y: -rv_y.log_prob(y), Loss()):
            model.compile(
                keras.optimizers.SGD(0.0),
                loss=loss,
                metrics=[mean_error, negloglik, Likelihood(), "mae"],
            )
            model.fit(X, LINE, sample_weight=np.ones(N), verbose=0)
            found = model.evaluate(X, LINE, verbose=0, return_dict=True)
            kernel, bias = model.get_weights()
            error = (LINE[:, None] - X @ kernel - bias).astype("float64")
            expected = np.mean(error**2 / 2 + np.log(2 * np.pi) / 2)
            assert found["loss"] == pytest.approx(expected, rel=1e-5)
            assert found["negloglik"] == pytest.approx(expected, rel=1e-5)
            assert found["mean"] == pytest.approx(-expected, rel=1e-5)
            for name in ("mae", "mean_error"):
                assert found[name] == pytest.approx(
                    np.abs(error).mean(), rel=1e-5
                )


@keras.saving.register_keras_serializable("tests")
def registered_loss(y, rv_y):
    return -rv_y.log_prob(y)


@keras.saving.register_keras_serializable("tests")
def registered_metric(y, rv_y):
    return rv_y.stddev()


def test_saved_with_its_loss_or_without(tmp_path):
    path = tmp_path / "model.keras"
    model = tfp_vae.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), tfpl.IndependentNormal(1)]
    )
    model.compile("adam", registered_loss, metrics=[registered_metric])
    model.fit(X, LINE, verbose=0)
    model.save(path)
    again = keras.saving.load_model(path, safe_mode=True)
    assert again.evaluate(X, LINE, verbose=0) == pytest.approx(
        model.evaluate(X, LINE, verbose=0)
    )
    model.compile("adam", lambda y, rv_y: -rv_y.log_prob(y))
    with pytest.warns(UserWarning, match="not how it was compiled"):
        model.save(path)
    again = keras.saving.load_model(path, safe_mode=True)
    np.testing.assert_array_equal(
        again.predict(X, verbose=0), model.predict(X, verbose=0)
    )


def test_a_loss_of_tensors_stays_what_keras_makes_of_it():
    model = tfp_vae.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", lambda y, p: ops.square(y - p))
    kernel, bias = model.get_weights()
    expected = np.square(LINE[:, None] - X @ kernel - bias).mean()
    assert model.evaluate(X, LINE, verbose=0) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_loss_of_another_batch_is_refused():
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(1),
            tfpl.DistributionLambda(lambda t: tfd.Normal(t[:, 0], 1.0)),
        ]
    )
    model.compile("sgd", lambda y, d: -d.log_prob(ops.reshape(y, (-1, 1))))
    with pytest.raises(ValueError, match="one of each example"):
        model.fit(X, LINE, verbose=0)


# The corpus. Each returns a model that is fitted, and what it is fitted to.


def regression_with_a_lambda():
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(1),
            tfpl.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1)),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=negloglik)
    return model, X, LINE


def regression_with_learned_scatter():
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(1 + 1),
            tfpl.DistributionLambda(
                lambda t: tfd.Normal(
                    loc=t[..., :1],
                    scale=1e-3 + ops.softplus(0.05 * t[..., 1:]),
                )
            ),
        ]
    )
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    return model, X, LINE


def regression_with_two_branches():
    inputs = keras.layers.Input(shape=(3,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    loc = keras.layers.Dense(1)(hidden)
    scale = keras.layers.Dense(1, activation="softplus")(hidden)
    outputs = tfpl.DistributionLambda(
        lambda t: tfd.Normal(loc=t[0], scale=1e-3 + t[1])
    )([loc, scale])
    model = tfp_vae.Model(inputs=inputs, outputs=outputs)
    model.compile("adam", loss=negloglik, metrics=["mse"])
    return model, X, LINE


def regression_with_independent_normal():
    event_shape = [1]
    model = tfp_vae.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(
                tfpl.IndependentNormal.params_size(event_shape=event_shape)
            ),
            tfpl.IndependentNormal(
                event_shape, convert_to_tensor_fn=tfd.Distribution.mean
            ),
        ]
    )
    model.compile(loss=lambda y, p_y: -p_y.log_prob(y), optimizer="rmsprop")
    return model, X, LINE[:, None]


def mixture_density_network():
    size = tfpl.MixtureSameFamily.params_size(
        3, component_params_size=tfpl.IndependentNormal.params_size([1])
    )
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(size, activation=None),
            tfpl.MixtureSameFamily(3, tfpl.IndependentNormal([1])),
        ]
    )
    model.compile("adam", loss=lambda y, model: -model.log_prob(y))
    return model, X, LINE


def counts_after_a_convolution():
    model = tfp_vae.Sequential(
        [
            keras.layers.Conv1D(4, 3, padding="causal"),
            keras.layers.LSTM(4),
            keras.layers.Dense(tfpl.IndependentPoisson.params_size([1])),
            tfpl.IndependentPoisson([1]),
        ]
    )
    model.compile("adam", loss=negloglik)
    return model, np.tile(X[..., None], 2), np.abs(LINE).round()


def classes():
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(tfpl.OneHotCategorical.params_size(3)),
            tfpl.OneHotCategorical(
                3, convert_to_tensor_fn=tfd.Distribution.mode
            ),
        ]
    )
    model.compile("adam", loss=negloglik, metrics=["accuracy"])
    return model, X, LABELS


def vae_of_the_notebook():
    size = 2
    prior = tfd.Independent(
        tfd.Normal(loc=np.zeros(size, "float32"), scale=1),
        reinterpreted_batch_ndims=1,
    )
    encoder = tfp_vae.Sequential(
        [
            keras.layers.InputLayer(input_shape=(4, 4, 1)),
            keras.layers.Lambda(lambda x: ops.cast(x, "float32") - 0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(
                tfpl.MultivariateNormalTriL.params_size(size), activation=None
            ),
            tfpl.MultivariateNormalTriL(
                size,
                activity_regularizer=tfpl.KLDivergenceRegularizer(prior),
            ),
        ]
    )
    decoder = tfp_vae.Sequential(
        [
            keras.layers.InputLayer(input_shape=[size]),
            keras.layers.Dense(16, activation=None),
            tfpl.IndependentBernoulli((4, 4, 1), tfd.Bernoulli.logits),
        ]
    )
    vae = tfp_vae.Model(
        inputs=encoder.inputs, outputs=decoder(encoder.outputs[0])
    )
    vae.compile(
        optimizer=keras.optimizers.Adam(learning_rate=1e-3),
        loss=lambda x, rv_x: -rv_x.log_prob(x),
    )
    return vae, IMAGES, IMAGES


def vae_with_an_annealed_weight():
    weight = keras.Variable(0.0, trainable=False)
    prior = tfd.MultivariateNormalDiag(loc=np.zeros(2, "float32"))

    class Anneal(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            weight.assign(min(1.0, epoch / 2))

    model = tfp_vae.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            tfpl.DistributionLambda(
                lambda t: tfd.MultivariateNormalDiag(
                    t[..., :2], ops.softplus(t[..., 2:])
                ),
                convert_to_tensor_fn=lambda d: d.sample(),
            ),
            tfpl.KLDivergenceAddLoss(
                prior, test_points_fn=lambda d: d.sample(5), weight=weight
            ),
            keras.layers.Dense(16),
            tfpl.IndependentBernoulli((4, 4, 1)),
        ]
    )
    model.compile("adam", loss=negloglik)
    return model, IMAGES, IMAGES, [Anneal()]


def posterior_mean_field(kernel_size, bias_size=0, dtype=None):
    n = kernel_size + bias_size
    c = np.log(np.expm1(1.0))
    return keras.Sequential(
        [
            tfpl.VariableLayer(2 * n, dtype=dtype),
            tfpl.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Normal(
                        loc=t[..., :n],
                        scale=1e-5 + ops.softplus(c + t[..., n:]),
                    ),
                    reinterpreted_batch_ndims=1,
                )
            ),
        ]
    )


def prior_trainable(kernel_size, bias_size=0, dtype=None):
    n = kernel_size + bias_size
    return keras.Sequential(
        [
            tfpl.VariableLayer(n, dtype=dtype),
            tfpl.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Normal(loc=t, scale=1), reinterpreted_batch_ndims=1
                )
            ),
        ]
    )


def bayesian_line_of_the_notebook():
    model = tfp_vae.Sequential(
        [
            tfpl.DenseVariational(
                1 + 1,
                posterior_mean_field,
                prior_trainable,
                kl_weight=1 / X.shape[0],
            ),
            tfpl.DistributionLambda(
                lambda t: tfd.Normal(
                    loc=t[..., :1],
                    scale=1e-3 + ops.softplus(0.01 * t[..., 1:]),
                )
            ),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=negloglik)
    return model, X, LINE


def bayesian_network_of_keras_io():
    def prior(kernel_size, bias_size, dtype=None):
        n = kernel_size + bias_size
        return keras.Sequential(
            [
                tfpl.DistributionLambda(
                    lambda t: tfd.MultivariateNormalDiag(
                        loc=ops.zeros(n), scale_diag=ops.ones(n)
                    )
                )
            ]
        )

    def posterior(kernel_size, bias_size, dtype=None):
        n = kernel_size + bias_size
        return keras.Sequential(
            [
                tfpl.VariableLayer(
                    tfpl.MultivariateNormalTriL.params_size(n), dtype=dtype
                ),
                tfpl.MultivariateNormalTriL(n),
            ]
        )

    inputs = {
        name: keras.layers.Input(name=name, shape=(1,), dtype="float32")
        for name in ("acidity", "sugar")
    }
    features = keras.layers.concatenate(list(inputs.values()))
    features = keras.layers.BatchNormalization()(features)
    features = tfpl.DenseVariational(
        units=4,
        make_prior_fn=prior,
        make_posterior_fn=posterior,
        kl_weight=1 / N,
        activation="sigmoid",
    )(features)
    parameters = keras.layers.Dense(units=2)(features)
    outputs = tfpl.IndependentNormal(1)(parameters)
    model = tfp_vae.Model(inputs=inputs, outputs=outputs)
    model.compile("rmsprop", loss=negloglik)
    return model, {"acidity": X[:, :1], "sugar": X[:, 1:2]}, LINE


def flipout_classifier():
    kl = lambda q, p, _: tfd.kl_divergence(q, p) / N  # noqa: E731
    model = keras.models.Sequential(
        [
            tfpl.Convolution2DFlipout(
                4,
                kernel_size=2,
                padding="SAME",
                activation="relu",
                kernel_divergence_fn=kl,
            ),
            keras.layers.MaxPooling2D(pool_size=[2, 2], padding="same"),
            keras.layers.Flatten(),
            tfpl.DenseFlipout(3, activation="softmax", kernel_divergence_fn=kl),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model, IMAGES, LABELS


def own_posterior_and_prior():
    model = tfp_vae.Sequential(
        [
            tfpl.DenseReparameterization(
                4,
                activation="tanh",
                kernel_posterior_fn=tfpl.default_mean_field_normal_fn(
                    loc_initializer=keras.initializers.HeNormal(),
                    untransformed_scale_initializer=(
                        keras.initializers.RandomNormal(mean=-9.0)
                    ),
                    loc_constraint="max_norm",
                ),
                kernel_prior_fn=lambda dtype, shape, *_: tfd.Independent(
                    tfd.Normal(
                        ops.zeros(shape, dtype), dtype.as_numpy_dtype(0.1)
                    ),
                    len(shape),
                ),
                kernel_divergence_fn=scaled_kl(N),
                bias_posterior_fn=tfpl.default_mean_field_normal_fn(),
                bias_prior_fn=tfpl.default_multivariate_normal_fn,
                bias_divergence_fn=scaled_kl(N),
            ),
            tfpl.DenseLocalReparameterization(
                1,
                kernel_posterior_tensor_fn=lambda d: d.sample(),
                kernel_divergence_fn=scaled_kl(N),
            ),
        ]
    )
    model.compile("adam", "mse")
    return model, X, LINE


def trainable_prior_of_variables():
    """A distribution that trains, as a prior of latents."""
    prior = keras.Sequential(
        [
            tfpl.VariableLayer(
                shape=[4],
                initializer=tfpl.BlockwiseInitializer(
                    ["zeros", keras.initializers.Constant(0.54)], sizes=[2, 2]
                ),
            ),
            tfpl.DistributionLambda(
                lambda t: tfd.MultivariateNormalDiag(
                    loc=t[..., :2], scale_diag=ops.softplus(t[..., 2:])
                )
            ),
        ]
    )
    model = tfp_vae.Sequential(
        [
            keras.layers.Dense(5),
            tfpl.MultivariateNormalTriL(2),
            tfpl.KLDivergenceAddLoss(prior, use_exact_kl=True),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model, X, LINE


def gaussian_process_of_the_notebook():
    class RBFKernelFn(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            dtype = kwargs.get("dtype")
            self._amplitude = self.add_weight(
                initializer="zeros", dtype=dtype, name="amplitude"
            )
            self._length_scale = self.add_weight(
                initializer="zeros", dtype=dtype, name="length_scale"
            )

        def call(self, x):
            return x

        @property
        def kernel(self):
            return tfp.math.psd_kernels.ExponentiatedQuadratic(
                amplitude=ops.softplus(0.1 * self._amplitude),
                length_scale=ops.softplus(5.0 * self._length_scale),
            )

    x = X[:, :1]
    model = tfp_vae.Sequential(
        [
            keras.layers.InputLayer(input_shape=[1]),
            keras.layers.Dense(1, kernel_initializer="ones", use_bias=False),
            tfpl.VariationalGaussianProcess(
                num_inducing_points=5,
                kernel_provider=RBFKernelFn(),
                event_shape=[1],
                inducing_index_points_initializer=(
                    keras.initializers.Constant(
                        np.linspace(-2, 2, num=5, dtype=x.dtype)[..., None]
                    )
                ),
                unconstrained_observation_noise_variance_initializer=(
                    keras.initializers.Constant(0.54)
                ),
            ),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.01),
        loss=lambda y, rv_y: rv_y.variational_loss(
            y, kl_weight=np.array(16, x.dtype) / x.shape[0]
        ),
    )
    return model, x, LINE


def autoregressive_flow():
    model = tfp_vae.Sequential(
        [
            keras.layers.InputLayer(input_shape=(0,), dtype="float32"),
            tfpl.DistributionLambda(
                lambda t: tfd.MultivariateNormalDiag(
                    loc=ops.zeros((*ops.shape(t)[:-1], 2)),
                    scale_diag=[1.0, 1.0],
                )
            ),
            tfpl.AutoregressiveTransform(
                layers.AutoregressiveNetwork(
                    params=2, hidden_units=[10], activation="relu"
                )
            ),
        ]
    )
    model.compile("adam", loss=lambda y, rv_y: -rv_y.log_prob(y))
    return model, np.zeros((N, 0), "float32"), X[:, :2]


CORPUS = [
    regression_with_a_lambda,
    regression_with_learned_scatter,
    regression_with_two_branches,
    regression_with_independent_normal,
    mixture_density_network,
    counts_after_a_convolution,
    classes,
    vae_of_the_notebook,
    vae_with_an_annealed_weight,
    bayesian_line_of_the_notebook,
    bayesian_network_of_keras_io,
    flipout_classifier,
    own_posterior_and_prior,
    trainable_prior_of_variables,
    gaussian_process_of_the_notebook,
    autoregressive_flow,
]


@pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated")
# Keras' own, of a model that is made of a list of one input.
@pytest.mark.filterwarnings("ignore:[^$]*The structure of `inputs`")
# TFP's own, on JAX.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("part", CORPUS)
def test_the_corpus(part):
    """It trains, evaluates, predicts, and returns what draws."""
    model, x, y, *callbacks = part()
    history = model.fit(
        x, y, epochs=3, batch_size=16, verbose=0, callbacks=callbacks[0:1]
    )
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()
    assert len(model.predict(x, verbose=0)) == N
    output = model(x)
    assert np.asarray(ops.convert_to_tensor(output)).shape[0] == N
    if isinstance(output, tfd.Distribution):
        assert numpy(output.sample()).shape[0] == N
    # Each weight that trains is reached by a gradient.
    before = [numpy(w).copy() for w in model.trainable_weights]
    model.fit(x, y, epochs=1, batch_size=16, verbose=0)
    moved = [
        (numpy(w) != b).any()
        for w, b in zip(model.trainable_weights, before, strict=True)
    ]
    assert all(moved), [
        w.path for w, m in zip(model.weights, moved, strict=False) if not m
    ]
