"""A pass over a few rows gives the same results traced and step by step."""

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND, numpy

from tfp_vae import VAE, layers
from tfp_vae.models.dry_run import Trial, try_shapes
from tfp_vae.objectives import ELBO
from tfp_vae.substrate import tfd

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def made(*first):
    return VAE(
        keras.Sequential(
            [keras.layers.Dense(4), layers.MultivariateNormalDiag(2)]
        ),
        keras.Sequential(
            [*first, keras.layers.Dense(8), layers.IndependentNormal(4)]
        ),
        seed=1,
    )


def is_traced(x):
    try:
        np.asarray(x)
    except Exception:
        return True
    return False


def test_what_is_made_is_traced_on_jax():
    vae = made()
    trial, seen = Trial(), []

    def run(x):
        seen.append(is_traced(x))
        return vae(x)[-1]

    x = ops.convert_to_tensor(X)
    try_shapes(vae, run, x)
    for _ in range(3):
        trial(vae, (vae,), run, x)
    # Once with values, to make the weights. Then on JAX one function is kept.
    assert seen == [False, True] if BACKEND == "jax" else [False] * 4


def test_the_distribution_is_the_same():
    vae = made()
    vae(X)
    x = ops.convert_to_tensor(X)
    trial = Trial()
    vae._evaluation_seed_generator.state.assign([5, 0])
    found = trial(vae, (vae,), lambda x: vae(x)[-1], x)
    vae._evaluation_seed_generator.state.assign([5, 0])
    expected = vae(x)[-1]
    assert type(found) is type(expected)
    assert found.name == expected.name
    np.testing.assert_allclose(
        numpy(found.log_prob(x)), numpy(expected.log_prob(x)), rtol=1e-5
    )


def test_it_follows_the_weights():
    vae = made()
    vae(X)
    x = ops.convert_to_tensor(X)
    trial = Trial()
    trial(vae, (vae,), lambda x: vae(x)[-1], x)
    vae.decoder.layers[0].kernel.assign(ops.zeros((2, 8)))
    vae.decoder.layers[0].bias.assign(ops.full((8,), 3.0))
    found = trial(vae, (vae,), lambda x: vae(x)[-1], x)
    np.testing.assert_allclose(numpy(found.mean()), np.full((3, 4), 3.0))


class InPython(keras.layers.Layer):
    """A layer that reads values, which a compiled layer cannot do."""

    def call(self, x):
        return x * (2.0 if float(ops.sum(x)) > 0 else 1.0)

    def compute_output_shape(self, input_shape):
        return input_shape


def test_what_cannot_be_traced_runs_step_by_step():
    vae = made(InPython())
    x = ops.convert_to_tensor(X)
    trial = Trial()
    for _ in range(2):
        try_shapes(vae, vae, x)
        likelihood = trial(vae, (vae,), lambda x: vae(x)[-1], x)
        assert numpy(likelihood.log_prob(x)).shape == (3,)


def test_errors_are_those_of_the_pass():
    vae = made()
    vae(X)

    def run(x):
        raise ValueError("wrong" + " for a tracer" * is_traced(x))

    with pytest.raises(ValueError, match="wrong$"):
        try_shapes(vae, run, ops.convert_to_tensor(X))
    with pytest.raises(ValueError, match="wrong$"):
        Trial()(vae, (vae,), run, ops.convert_to_tensor(X))


def test_a_debugger_sees_values():
    vae = made()
    vae.compile("sgd", run_eagerly=True)
    vae(X)
    seen = []
    decode = vae.decode
    vae.decode = lambda z, **kwargs: (
        seen.append(is_traced(z)) or decode(z, **kwargs)
    )
    vae.predict(X, verbose=0)
    vae.fit(X, verbose=0)
    assert seen
    # On JAX gradients are always traced.
    assert sum(seen) <= (BACKEND == "jax")


class Asserting(layers.DistributionLayer):
    """A normal whose scale is its input."""

    def __init__(self, scale, **kwargs):
        super().__init__(2, **kwargs)
        self.scale = scale

    @staticmethod
    def params_size(event_shape):
        return 2

    def make_distribution(self, params):
        normal = tfd.Normal(params, self.scale, validate_args=True)
        return tfd.Independent(normal, 1)


def test_assertions_are_heard():
    def vae(scale):
        return VAE(
            keras.Sequential(
                [keras.Input((4,)), keras.layers.Dense(2), Asserting(scale)]
            ),
            keras.Sequential(
                [
                    keras.Input((2,)),
                    keras.layers.Dense(8),
                    layers.IndependentNormal(4),
                ]
            ),
        )

    with pytest.raises(Exception, match=r"scale.* positive"):
        vae(-1.0)
    found = vae(1.0)
    found.encoder.layers[-1].scale = -1.0
    with pytest.raises(Exception, match=r"scale.* positive"):
        found.predict(X, verbose=0)
    found.compile("sgd")
    with pytest.raises(Exception, match=r"scale.* positive"):
        found.fit(X, verbose=0)


def test_another_prior_is_looked_at():
    vae = made()
    vae.compile("sgd")
    vae.fit(X, verbose=0)
    vae.prior = tfd.MultivariateNormalDiag(np.zeros(3, "float32"))
    with pytest.raises(ValueError, match="the same latent space"):
        vae.fit(X, verbose=0)


class MakesAVariable(ELBO):
    """An objective that makes its variables at the first use."""

    scale = None

    def combine(self, step):
        if self.scale is None:
            self.scale = keras.Variable(2.0, trainable=False)
        objective, reports = super().combine(step)
        return objective * self.scale, reports


def test_a_variable_made_on_the_way_is_a_variable():
    vae = made()
    vae.objective = MakesAVariable()
    vae.compile("sgd")
    vae.evaluate(X, verbose=0)
    np.testing.assert_array_equal(numpy(vae.objective.scale), 2.0)
