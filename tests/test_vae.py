"""The model: training, every data source, saving, errors, the guard."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from keras.regularizers import L2
from support import BACKEND, numpy

from tfp_vae import ELBO, VAE, layers
from tfp_vae.layers.sample import mean_or_mode, stddev_or_estimate
from tfp_vae.models import NonFiniteLossError
from tfp_vae.substrate import samplers, tfb, tfd, tfp_seed

D, L = 6, 2
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(64, L)) @ RNG.normal(size=(L, D))).astype("float32")


def networks(
    head=layers.IndependentNormal, data=D, latent=L, built=True, **modes
):
    parts = (
        [keras.Input((data,))],
        [
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(
                layers.MultivariateNormalDiag.params_size(latent)
            ),
            layers.MultivariateNormalDiag(latent),
        ],
        [keras.Input((latent,))],
        [
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(head.params_size(data, **modes)),
            head(data, **modes),
        ],
    )
    encoder = keras.Sequential([*parts[0] * built, *parts[1]])
    decoder = keras.Sequential([*parts[2] * built, *parts[3]])
    return encoder, decoder


def compiled(*args, optimizer=None, seed=1, jit_compile="auto", **kwargs):
    keras.utils.set_random_seed(7)
    model = VAE(*networks(), *args, seed=seed, **kwargs)
    model.compile(
        optimizer or keras.optimizers.Adam(0.01), jit_compile=jit_compile
    )
    return model


def fit(model, *args, epochs=1, **kwargs):
    return model.fit(
        *args, batch_size=16, epochs=epochs, verbose=0, shuffle=False, **kwargs
    ).history


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_lowers_the_loss_and_logs_its_terms(jit_compile):
    history = fit(
        compiled(jit_compile=jit_compile), X, epochs=15, validation_data=(X,)
    )
    assert set(history) == {
        f"{prefix}{name}"
        for prefix in ("", "val_")
        for name in ("loss", "log_likelihood", "kl")
    }
    assert history["loss"][-1] < history["loss"][0] - 1
    for prefix in ("", "val_"):
        np.testing.assert_allclose(
            history[f"{prefix}loss"],
            np.subtract(
                history[f"{prefix}kl"], history[f"{prefix}log_likelihood"]
            ),
            rtol=1e-5,
        )


@pytest.mark.versions
def test_evaluate_is_the_elbo_by_hand():
    """In numpy float64, from the same parameters and noise."""
    model = compiled(objective=ELBO(beta=0.7))
    loss, log_likelihood, kl = model.evaluate(X, batch_size=64, verbose=0)
    # The same noise again: the model resets it at each call of evaluate.
    model._evaluation_seed_generator.state.assign([1, 0])
    posterior, z, _ = model(X)
    loc, scale = (
        numpy(t).astype("float64")
        for t in (posterior.mean(), posterior.stddev())
    )
    params = numpy(keras.Sequential(model.decoder.layers[:-1])(z)).astype(
        "float64"
    )
    mean, raw = np.split(params, 2, axis=1)
    expected = scipy.stats.norm.logpdf(X, mean, np.logaddexp(0, raw) + 1e-6)
    expected = expected.sum(1).mean()
    divergence = (scale**2 + loc**2 - 1 - 2 * np.log(scale)).sum(1).mean() / 2
    assert log_likelihood == pytest.approx(expected, rel=1e-5)
    assert kl == pytest.approx(divergence, rel=1e-5)
    assert loss == pytest.approx(0.7 * divergence - expected, rel=1e-5)


def as_tf_data(x, y=None):
    tf = pytest.importorskip("tensorflow")
    data = (x,) if y is None else (x, y)
    return tf.data.Dataset.from_tensor_slices(data).batch(16)


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, i):
        return (self.x[16 * i : 16 * (i + 1)],)


@pytest.mark.versions
@pytest.mark.parametrize(
    "source", ["array", "tf.data", "bare", "PyDataset", "generator"]
)
@pytest.mark.parametrize("built", [True, False])
def test_every_source_of_data_trains_alike(source, built):
    keras.utils.set_random_seed(7)
    model = VAE(*networks(built=built), seed=1)
    model.compile(keras.optimizers.Adam(0.01))
    if source == "array":
        history = fit(model, X, validation_data=X)
    else:
        pipeline = {
            "tf.data": lambda: as_tf_data(X),
            "bare": lambda: as_tf_data(X).map(lambda x: x),
            "PyDataset": lambda: Batches(X),
            "generator": lambda: ((X[i : i + 16],) for i in range(0, 64, 16)),
        }[source]
        history = model.fit(
            pipeline(),
            epochs=1,
            verbose=0,
            shuffle=False,
            validation_data=pipeline() if source != "generator" else X,
            **(
                {"validation_batch_size": 16, "steps_per_epoch": 4}
                if source == "generator"
                else {}
            ),
        ).history
    if built:
        # The seed gives the initial weights of the reference.
        expected = fit(compiled(), X)
        assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert np.isfinite(history["val_loss"][0])


def test_targets_and_weights():
    """Weight 0 removes an example; the loss is Keras' weighted mean."""
    y = X + 1
    weight = np.float32(np.arange(64) % 2 * 2)
    model = compiled(optimizer=keras.optimizers.SGD(0.0))
    weighted = model.evaluate(
        X, y, sample_weight=weight, verbose=0, batch_size=64
    )
    each = model.predict(X, verbose=0)
    model._evaluation_seed_generator.state.assign([1, 0])
    terms = model.compute_terms(ops.convert_to_tensor(y), model(X))
    objective = numpy(terms.objective).astype("float64")
    assert weighted[0] == pytest.approx(-(weight * objective).mean(), rel=1e-5)
    assert weighted[1] == pytest.approx(
        (weight * numpy(terms.log_likelihood)).sum() / weight.sum(), rel=1e-5
    )
    assert weighted[2] == pytest.approx(
        (weight * each["kl"]).sum() / weight.sum(), rel=1e-4
    )
    history = fit(compiled(), X, y, sample_weight=weight)
    assert history["loss"] != fit(compiled(), X)["loss"]


def test_weights_without_targets_count():
    """Keras drops the weights where there are no targets."""
    weight = np.float32(np.arange(64) < 16)
    some = compiled().evaluate(
        X, sample_weight=weight, verbose=0, batch_size=64
    )
    same = compiled().evaluate(
        X, X, sample_weight=weight, verbose=0, batch_size=64
    )
    assert some == same
    assert some[0] != compiled().evaluate(X, verbose=0, batch_size=64)[0]
    model = compiled()
    nothing = np.zeros(64, "float32")
    with pytest.raises(ValueError, match="zeros alone"):
        fit(model, X, sample_weight=nothing)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, sample_weight=np.full(64, np.nan), verbose=0)
    with pytest.raises(ValueError, match="not negative"):
        model.fit(X, sample_weight=-weight, verbose=0)


def test_layers_are_told_that_they_train():
    """BatchNormalization and an optimal scale have state that changes."""
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            *networks()[0].layers,
        ]
    )
    decoder = networks(layers.IndependentHuber, scale="optimal")[1]
    model = VAE(encoder, decoder, seed=1)
    model.compile(keras.optimizers.SGD(0.0))
    norm, head = encoder.layers[0], decoder.layers[-1]
    fit(model, 5 * X, epochs=3)
    assert (numpy(norm.moving_variance) > 1.5).all()
    (scale,) = head.non_trainable_weights
    assert float(scale) > 1.2
    moved = numpy(norm.moving_variance), float(scale)
    model.evaluate(5 * X, verbose=0)
    model.predict(5 * X, verbose=0)
    np.testing.assert_array_equal(numpy(norm.moving_variance), moved[0])
    assert float(scale) == moved[1]


def test_losses_added_by_layers_count():
    plain = compiled()
    decoder = keras.Sequential(
        [
            keras.Input((L,)),
            keras.layers.Dense(8, "tanh", kernel_regularizer=L2(0.1)),
            *networks()[1].layers[1:],
        ]
    )
    regularized = VAE(networks()[0], decoder, seed=1)
    regularized.compile("sgd")
    regularized.set_weights(plain.get_weights())
    kernel = numpy(decoder.layers[0].kernel)
    difference = (
        regularized.evaluate(X, verbose=0)[0] - plain.evaluate(X, verbose=0)[0]
    )
    assert difference == pytest.approx(0.1 * (kernel**2).sum(), rel=1e-3)


def test_what_users_call():
    model = compiled()
    posterior, likelihood = model.encode(X), model.decode(np.zeros((3, L), "f"))
    assert tuple(posterior.batch_shape) == (64,)
    assert tuple(likelihood.event_shape) == (D,)
    assert tuple(model.reconstruct(X).shape) == (64, D)
    draws = model.sample(5, seed=3)
    assert tuple(draws.shape) == (5, D)
    np.testing.assert_array_equal(numpy(draws), numpy(model.sample(5, seed=3)))
    assert (numpy(draws) != numpy(model.sample(5, seed=4))).any()
    found = model.predict(X, verbose=0, batch_size=10)
    np.testing.assert_allclose(
        found["mean"], numpy(model.reconstruct(X)), rtol=1e-5, atol=1e-6
    )
    at_mean = model.decode(posterior.mean())
    for name, expected in {
        "z_mean": posterior.mean(),
        "z_stddev": posterior.stddev(),
        "log_likelihood": at_mean.log_prob(X),
        "kl": tfd.kl_divergence(
            tfd.Independent(
                tfd.Normal(posterior.mean(), posterior.stddev()), 1
            ),
            tfd.Independent(tfd.Normal(np.zeros(L, "f"), 1.0), 1),
        ),
        "elbo": found["log_likelihood"] - found["kl"],
    }.items():
        np.testing.assert_allclose(
            found[name], numpy(expected), rtol=1e-4, atol=1e-5, err_msg=name
        )
    again = model.predict(X, verbose=0, batch_size=10)
    np.testing.assert_array_equal(found["kl"], again["kl"])


def with_heads(posterior, likelihood):
    """A VAE of two functions from `2 * size` numbers to a distribution."""
    model = VAE(
        *(
            keras.Sequential(
                [
                    keras.Input((size,)),
                    keras.layers.Dense(2 * out),
                    layers.DistributionLambda(head),
                ]
            )
            for size, out, head in ((D, L, posterior), (L, D, likelihood))
        )
    )
    model.compile("adam")
    return model


def normals(t):
    loc, raw = ops.split(t, 2, axis=-1)
    return tfd.Independent(tfd.Normal(loc, ops.softplus(raw) + 0.1), 1)


def flow(t):
    return tfd.TransformedDistribution(normals(t), tfb.Softplus())


def log_cauchy(t):
    loc, raw = ops.split(t, 2, axis=-1)
    cauchy = tfd.Cauchy(loc, ops.softplus(raw) + 0.1)
    return tfd.Independent(
        tfd.TransformedDistribution(cauchy, tfb.Exp()), 1, name="LogCauchy"
    )


def relaxed(t):
    return tfd.RelaxedOneHotCategorical(0.7, logits=t[:, :D])


def draws_of(distribution):
    return numpy(distribution.sample(20_000, seed=tfp_seed(5)))


@pytest.mark.parametrize("likelihood", [flow, relaxed])
def test_what_has_no_known_mean_is_estimated(likelihood):
    model = with_heads(flow, likelihood)
    found = model.predict(X, verbose=0, batch_size=64)
    posterior = draws_of(model.encode(X))
    # Of 100 draws: within 6 standard errors of the truth.
    error = 6 * posterior.std(0) / 10
    assert (abs(found["z_mean"] - posterior.mean(0)) < error).all()
    assert (abs(found["z_stddev"] / posterior.std(0) - 1) < 0.6).all()
    at_mean = draws_of(model.decode(found["z_mean"]))
    error = 6 * at_mean.std(0) / 10
    assert (abs(found["mean"] - at_mean.mean(0)) < error).all()
    np.testing.assert_allclose(
        numpy(model.reconstruct(X)), found["mean"], rtol=1e-4, atol=1e-5
    )
    assert numpy(model.sample(3, mean=True)).shape == (3, D)


def test_the_median_where_there_is_neither_mean_nor_mode():
    model = with_heads(normals, log_cauchy)
    z = model.encode(X).mean()
    loc = model.decode(z).distribution.distribution.loc
    np.testing.assert_allclose(
        numpy(model.reconstruct(X)), np.exp(numpy(loc)), rtol=1e-4
    )


def test_an_undefined_mean_is_the_mode():
    for likelihood in (
        tfd.Independent(tfd.Cauchy([1.0, 2.0], 1.0), 1),
        tfd.HalfCauchy([1.0, 2.0], 1.0),
    ):
        assert numpy(mean_or_mode(likelihood)).tolist() == [1.0, 2.0]


def test_whole_numbers_have_a_mean_between_them():
    class Opaque(tfd.Bernoulli):
        def _mean(self):
            raise NotImplementedError

        _mode = _mean

    found = numpy(mean_or_mode(Opaque(probs=np.float32([0.3, 0.6]))))
    np.testing.assert_allclose(found, [0.3, 0.6], atol=0.25)
    assert (found % 1 != 0).any()


def test_a_mistake_within_a_mean_is_seen():
    class Wrong(tfd.Normal):
        def _mean(self):
            return self.nothing

    with pytest.raises(AttributeError, match="nothing"):
        mean_or_mode(Wrong(0.0, 1.0))

    class Missing(tfd.Normal):
        def mean(self):
            return self._quantile_of_nothing.mean

        def stddev(self):
            raise AttributeError("no such method", name="_stddev", obj=self)

    with pytest.raises(AttributeError, match="nothing"):
        mean_or_mode(Missing(0.0, 1.0))
    assert 0.6 < float(stddev_or_estimate(Missing(0.0, 1.0))) < 1.4


def test_the_mean_of_the_likelihood_at_draws_of_the_prior():
    model = compiled()
    mean = numpy(model.sample(5, seed=3, mean=True))
    z_seed, _ = samplers.split_seed(tfp_seed(3))
    z = tfd.MultivariateNormalDiag(np.zeros(L, "f"), np.ones(L, "f")).sample(
        5, seed=z_seed
    )
    np.testing.assert_allclose(
        mean, numpy(model.decode(z).mean()), rtol=1e-4, atol=1e-5
    )
    assert (mean != numpy(model.sample(5, seed=3))).all()


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None, (2, 3)])
def test_sample_refuses_what_is_no_number_of_draws(n):
    with pytest.raises(ValueError, match=r"n is an int >= 1\. Received: n="):
        compiled().sample(n)


def test_sampling_twice_in_a_row_differs_while_training():
    model = compiled()
    z = [numpy(model(X, training=True)[1]) for _ in range(2)]
    assert (z[0] != z[1]).all()


def test_several_samples_agree_with_one_on_average():
    many = compiled(objective=ELBO(num_samples=100))
    one = compiled()
    single = [one.evaluate(X, verbose=0, seed=s)[1] for s in range(30)]
    error = np.std(single) / np.sqrt(30)
    together = many.evaluate(X, verbose=0)[1]
    assert together == pytest.approx(np.mean(single), abs=6 * error)
    fit(many, X)


@keras.saving.register_keras_serializable("tests")
class LearnedPrior(keras.layers.Layer):
    def build(self, input_shape):
        self.loc = self.add_weight(shape=(L,), initializer="zeros", name="loc")

    def call(self, inputs):
        return tfd.Independent(
            tfd.Normal(ops.convert_to_tensor(self.loc), 1.0), 1
        )


@pytest.mark.versions
@pytest.mark.parametrize(
    "prior",
    [
        None,
        tfd.MultivariateNormalDiag(np.ones(L, "f"), np.full(L, 2.0, "f")),
        tfd.Independent(tfd.Laplace(np.zeros(L, "f"), np.ones(L, "f")), 1),
        tfd.MixtureSameFamily(
            tfd.Categorical(probs=np.float32([0.4, 0.6])),
            tfd.MultivariateNormalDiag(
                np.eye(2, L, dtype="f"), np.ones(L, "f")
            ),
        ),
        LearnedPrior(),
    ],
    ids=["default", "diagonal", "monte_carlo", "mixture", "learned"],
)
def test_priors_train_and_are_saved(prior, tmp_path):
    model = compiled(prior)
    fit(model, X, epochs=2)
    found = model.predict(X, verbose=0)["kl"]
    assert (found > 0).mean() > 0.9  # an estimate: a few may be below
    if isinstance(prior, LearnedPrior):
        assert (numpy(prior.loc) != 0).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)
    np.testing.assert_array_equal(
        numpy(loaded.sample(3, seed=1)), numpy(model.sample(3, seed=1))
    )
    # The optimizer is saved too: the next epochs are equal, noise included.
    again, before = (fit(m, X)["loss"] for m in (loaded, model))
    assert again == pytest.approx(before, rel=1e-6)


def test_a_saved_model_in_a_new_process(tmp_path):
    model = compiled()
    fit(model, X)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    script = f"""
        import json, keras, numpy as np, tfp_vae
        model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
        x = np.load({str(tmp_path / "x.npy")!r})
        print(json.dumps(model.evaluate(x, verbose=0, seed=5)))
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(out.stdout.splitlines()[-1])
    expected = model.evaluate(X, verbose=0, seed=5)
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected != model.evaluate(X, verbose=0, seed=6)


def test_callbacks(tmp_path):
    model = compiled(optimizer=keras.optimizers.Adam(0.01, clipnorm=1.0))
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9),
        keras.callbacks.ModelCheckpoint(best, "val_loss", save_best_only=True),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    # Keras writes for TensorBoard through TensorFlow, on every backend.
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None
    if has_tensorflow:
        callbacks.append(keras.callbacks.TensorBoard(tmp_path / "logs"))
    history = fit(model, X, epochs=9, validation_data=(X,), callbacks=callbacks)
    assert len(history["loss"]) == 2  # stopped early
    loaded = keras.saving.load_model(best)
    assert loaded.evaluate(X, batch_size=16, verbose=0)[0] == pytest.approx(
        min(history["val_loss"]), rel=1e-6
    )
    assert not has_tensorflow or list((tmp_path / "logs").rglob("events*"))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled()
    finally:
        keras.config.set_dtype_policy("float32")
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    history = fit(model, X, epochs=12)
    assert history["loss"][-1] < history["loss"][0] - 0.5


def test_resumes_after_a_kill(tmp_path):
    """SIGKILL in the middle of epoch 4 loses epoch 4 and nothing else."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import keras
        from test_vae import X, compiled

        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.epoch = epoch

            def on_train_batch_end(self, batch, logs=None):
                if self.epoch == 3 and batch == 1 and len(sys.argv) > 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        history = compiled().fit(
            X, epochs=6, batch_size=16, shuffle=False, verbose=0, callbacks=[
                Kill(),
                keras.callbacks.BackupAndRestore({str(tmp_path / "b")!r}),
            ]
        )
        print(history.epoch, history.history["loss"])
        """)
    )
    killed = subprocess.run(
        [sys.executable, script, "kill"], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    )
    line = resumed.stdout.splitlines()[-1]
    assert line.startswith("[3, 4, 5]")
    expected = fit(compiled(), X, epochs=6)["loss"][3:]
    found = json.loads(line.split("] ", 1)[1])
    assert found == pytest.approx(expected, rel=1e-5)


# Errors, each at the first call.


def test_the_parts_are_checked():
    encoder, decoder = networks()
    with pytest.raises(TypeError, match="decoder is a Keras layer"):
        VAE(encoder, lambda z: z)
    with pytest.raises(TypeError, match="prior is a tfp.distributions object"):
        VAE(encoder, decoder, prior=3)
    dense = keras.Sequential([keras.Input((D,)), keras.layers.Dense(L)])
    with pytest.raises(
        TypeError, match=r"encoder returns a tfp.*shape \(1, 2\)"
    ):
        VAE(dense, decoder)
    dense = keras.Sequential([keras.Input((L,)), keras.layers.Dense(D)])
    with pytest.raises(TypeError, match="decoder returns a tfp"):
        VAE(encoder, dense)
    with pytest.raises(ValueError, match=r"z of shape \(1, 2\).*\(None, 3\)"):
        VAE(encoder, networks(latent=3)[1])
    # A number of samples alone is not enough.
    other = keras.layers.Dense(1)
    other.num_samples = 1
    for objective in ("elbo", ELBO, other):
        with pytest.raises(TypeError, match=r"a layer such as ELBO\(\)"):
            VAE(encoder, decoder, objective=objective)
    prior = tfd.MultivariateNormalDiag(np.zeros(3, "f"), np.ones(3, "f"))
    with pytest.raises(ValueError, match=r"a prior over \(3,\)"):
        VAE(encoder, decoder, prior=prior).evaluate(X)


@pytest.mark.skipif(BACKEND == "jax", reason="tf.Variable is TensorFlow's")
def test_variables_inside_a_prior_are_refused():
    import tensorflow as tf

    prior = tfd.Independent(tfd.Normal(tf.Variable([0.0, 0.0]), 1.0), 1)
    with pytest.raises(ValueError, match="layer that holds them by add_weight"):
        VAE(*networks(), prior=prior)


@pytest.mark.parametrize("name", ["loss", "metrics", "loss_weights"])
def test_a_loss_beside_the_objective_is_refused(name):
    with pytest.raises(ValueError, match="counted twice"):
        VAE(*networks()).compile("adam", **{name: "mse"})


def test_shapes_that_do_not_fit():
    model = compiled()
    with pytest.raises(ValueError, match=r"event shape \(6,\).*\(3, 2\)"):
        model.fit(X, X.reshape(64, 3, 2), verbose=0)
    leftover = keras.Sequential(
        [
            keras.Input((L,)),
            keras.layers.Dense(D),
            layers.DistributionLambda(lambda t: tfd.Normal(t, 1.0)),
        ]
    )
    model = VAE(networks()[0], leftover)
    model.compile("adam")
    with pytest.raises(ValueError, match="Wrap it: tfd.Independent"):
        model.fit(X, verbose=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "source", [lambda x: x, as_tf_data], ids=["array", "tf.data"]
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_values_that_are_not_numbers(bad, source, method):
    x = X.copy()
    x[3, 2] = bad
    with pytest.raises(ValueError, match=r"finite.*1 NaN.*index \(3, 2\)"):
        getattr(compiled(), method)(source(x), verbose=0)
    if method != "predict":
        with pytest.raises(ValueError, match="values in y"):
            getattr(compiled(), method)(X, x, verbose=0)
    if method == "fit":
        with pytest.raises(ValueError, match="finite"):
            compiled().fit(X, validation_data=(x,), verbose=0)


def bernoulli(samples=1):
    model = VAE(
        *networks(layers.IndependentBernoulli),
        objective=ELBO(num_samples=samples),
    )
    model.compile("adam")
    return model


@pytest.mark.parametrize("samples", [1, 3])
def test_data_outside_the_support(samples):
    binary = np.float32(X > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        bernoulli(samples).fit(binary, verbose=0)
    for value in (3.7, 2.0, -0.1, -1.0):
        x = binary.copy()
        x[40, 2] = value  # far from the first rows
        with pytest.raises(ValueError, match=rf"support.*{value}.*Bernoulli"):
            bernoulli(samples).fit(x, verbose=0)


def test_grey_levels_warn_once():
    model = bernoulli()
    grey = np.float32(RNG.random((64, D)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(grey, verbose=0, validation_data=(grey,))
        model.evaluate(grey, verbose=0)
    caught = [w for w in caught if "binarise" in str(w.message)]
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_posterior_without_gradient_is_refused():
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(L),
            layers.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Bernoulli(logits=t, dtype="float32"), 1
                )
            ),
        ]
    )
    prior = tfd.Independent(
        tfd.Bernoulli(logits=np.zeros(L, "f"), dtype="float32"), 1
    )
    model = VAE(encoder, networks()[1], prior=prior)
    model.compile("adam")
    model.evaluate(X, verbose=0)
    with pytest.raises(ValueError, match="must be reparameterised"):
        model.fit(X, verbose=0)


def test_data_of_no_use():
    model = compiled()
    for x in (X[:0], None, np.float32(3.0)):
        with pytest.raises(ValueError, match="one array"):
            model.fit(x, verbose=0)
    assert model.fit([X], verbose=0).history["loss"]


@pytest.mark.parametrize("built", [True, False])
def test_one_batch_at_a_time(built):
    model = VAE(*networks(built=built), seed=1)
    model.compile(keras.optimizers.Adam(0.05))
    losses = [
        model.train_on_batch(X, return_dict=True)["loss"] for _ in range(8)
    ]
    assert losses[-1] < losses[0]
    assert np.isfinite(model.test_on_batch(X)[0])


def test_a_learned_prior_in_half_precision_is_refused():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(LearnedPrior())
        right = compiled(LearnedPrior(dtype="float32"))
    except ValueError as error:
        assert 'dtype="float32"' in str(error)  # noqa: PT017
    else:
        with pytest.raises(ValueError, match='dtype="float32"'):
            fit(model, X)
        fit(right, X)
    finally:
        keras.config.set_dtype_policy("float32")


@keras.saving.register_keras_serializable("tests")
class Subclass(VAE):
    """With the usual `get_config`, of its own arguments only."""

    def __init__(self, width, **kwargs):
        super().__init__(*networks(), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_subclass_is_saved(tmp_path):
    model = Subclass(3)
    model.compile("adam")
    fit(model, X)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)


def test_a_lambda_for_beta_is_refused_when_saved(tmp_path):
    model = compiled(objective=ELBO(beta=lambda step: 1.0))
    with pytest.raises(TypeError, match="register_keras_serializable"):
        model.save(tmp_path / "model.keras")


def test_sampling_before_the_model_knows_its_latents():
    with pytest.raises(ValueError, match="Call it on a batch"):
        VAE(*networks(built=False)).sample(3)


# The guard.


class Sabotage(keras.callbacks.Callback):
    """Makes a weight of one part NaN before a step."""

    def __init__(self, part, epoch, batch):
        super().__init__()
        self.part, self.at = part, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            if BACKEND == "jax":
                self.model.jax_state_sync()
            layer = getattr(self.model, self.part).layers[-2]
            layer.bias.assign(np.full(layer.bias.shape, np.nan, "float32"))


@pytest.mark.parametrize(
    ("part", "term"),
    [("decoder", "log_likelihood"), ("encoder", "log_likelihood and kl")],
)
def test_a_loss_that_is_no_number_stops_training(part, term, tmp_path):
    model = compiled()
    good = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            good.append([v.copy() for v in self.model.get_weights()])

    checkpoint = tmp_path / "last.keras"
    with pytest.raises(NonFiniteLossError, match=f"^{term} became NaN") as info:
        fit(
            model,
            X,
            epochs=5,
            callbacks=[
                Keep(),
                Sabotage(part, 2, 1),
                keras.callbacks.ModelCheckpoint(checkpoint),
            ],
        )
    assert (info.value.epoch, info.value.step) == (3, 2)
    assert "step 2 of epoch 3" in str(info.value)
    assert "learning rate" in str(info.value)
    for found, expected in zip(model.get_weights(), good[-1], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all(np.isfinite(numpy(v)).all() for v in model.optimizer.variables)
    # Training can continue, and no callback has saved the broken weights.
    fit(model, X)
    keras.saving.load_model(checkpoint).evaluate(X, verbose=0)


@pytest.mark.parametrize(
    ("optimizer", "batch_size"),
    [
        (lambda: keras.optimizers.SGD(1e20), 16),
        (lambda: keras.optimizers.Adam(1e30), 16),
        # The only step of the epoch: its loss is finite, its update is not.
        (lambda: keras.optimizers.SGD(1e38), 64),
    ],
)
def test_an_exploding_learning_rate_is_named(optimizer, batch_size, tmp_path):
    model = compiled(optimizer=optimizer())
    before = model.get_weights()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras")
    with pytest.raises(NonFiniteLossError, match="from before the call of fit"):
        model.fit(
            X,
            batch_size=batch_size,
            epochs=2,
            verbose=0,
            callbacks=[checkpoint],
        )
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(model.evaluate(X, verbose=0)[0])
    assert not (tmp_path / "last.keras").exists()


def test_broken_weights_are_not_blamed_on_the_data():
    model = compiled()
    model.decoder.layers[-2].bias.assign(np.full(2 * D, np.nan, "float32"))
    with pytest.raises(ValueError, match="weights of the model must be finite"):
        model.evaluate(X, verbose=0)
