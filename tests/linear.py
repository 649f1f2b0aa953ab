"""A linear-Gaussian model, in which everything is known.

z ~ Normal(0, 1), x = z W + c V + b + s e. Its encoder is the exact posterior
given the observed elements: then each importance weight is p(x), for any z.
"""

import keras
import numpy as np
from keras import ops
from scipy.stats import multivariate_normal

from tfp_vae.substrate import tfd

D, L, C = 4, 2, 3
_RNG = np.random.default_rng(3)
W = _RNG.normal(size=(L, D)).astype("float32")
V = _RNG.normal(size=(C, D)).astype("float32")
B = _RNG.normal(size=D).astype("float32")
S = 0.7
COVARIANCE = W.T @ W + S**2 * np.eye(D)


def data(rows=8, missing=0.4, seed=0):
    """x with NaN in it, and classes c."""
    rng = np.random.default_rng(seed)
    c = rng.integers(0, C, rows).astype("int32")
    x = rng.normal(size=(rows, L)) @ W + V[c] + B
    x = (x + S * rng.normal(size=x.shape)).astype("float32")
    x[rng.random(x.shape) < missing] = np.nan
    if missing:
        x[0], x[1] = np.nan, 1.0  # nothing observed, and everything
    return x, c


def log_prob(x, mean):
    """log p of what was observed, in float64."""
    return np.array(
        [
            multivariate_normal.logpdf(row[o], m[o], COVARIANCE[np.ix_(o, o)])
            if o.any()
            else 0.0
            for row, m, o in zip(x, mean, ~np.isnan(x), strict=True)
        ]
    )


def conditional(row, mean):
    """Mean and covariance of the missing elements of a row, given the rest."""
    o = ~np.isnan(row)
    gain = COVARIANCE[np.ix_(~o, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    return (
        mean[~o] + gain @ (row[o] - mean[o]),
        COVARIANCE[np.ix_(~o, ~o)] - gain @ COVARIANCE[np.ix_(o, ~o)],
    )


def posterior(x, observed, mean):
    """p(z|x_o), `[B]`."""
    x = ops.cast(x, "float32")
    masked = W[None] * observed[:, None]  # [B, L, D]
    precision = ops.eye(L) + ops.matmul(masked, W.T) / S**2
    covariance = ops.inv(precision)
    shift = ops.matmul(masked, ((x - mean) * observed)[..., None]) / S**2
    return tfd.MultivariateNormalTriL(
        ops.matmul(covariance, shift)[..., 0], ops.cholesky(covariance)
    )


@keras.saving.register_keras_serializable("tests")
class Encoder(keras.layers.Layer):
    """The exact posterior; it asks for the mask."""

    def call(self, x, observed):
        return posterior(x, observed, ops.convert_to_tensor(B))


@keras.saving.register_keras_serializable("tests")
class ConditionalEncoder(keras.layers.Layer):
    """The exact posterior, given a class."""

    def call(self, x, label, observed):
        return posterior(x, observed, B + ops.take(V, label, axis=0))


@keras.saving.register_keras_serializable("tests")
class Decoder(keras.layers.Layer):
    """p(x|z), with an offset that trains."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.offset = self.add_weight(shape=(D,), initializer="zeros")
        self.built = True

    def mean(self, z):
        return ops.matmul(z, W) + B + self.offset

    def call(self, z):
        return tfd.Independent(tfd.Normal(self.mean(z), S), 1)


@keras.saving.register_keras_serializable("tests")
class ConditionalDecoder(Decoder):
    """p(x|z, c)."""

    def call(self, z, label):
        mean = self.mean(z) + ops.take(V, label, axis=0)
        return tfd.Independent(tfd.Normal(mean, S), 1)
