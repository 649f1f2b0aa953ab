"""Distributions that the kit must pass: classes as users write them."""

import math

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.location_scale import SymmetricLocationScale
from tfp_vae.substrate import (
    DiscreteDistributionMixin,
    assert_util,
    parameter_properties,
    samplers,
    tfb,
    tfd,
)


class Right(SymmetricLocationScale):
    """The logistic distribution, as a user would write it."""

    def __init__(
        self,
        loc,
        scale=1.0,
        validate_args=False,
        allow_nan_stats=True,
        name="Right",
    ):
        super().__init__(dict(locals()))

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return cls._properties(dtype)

    def _log_prob(self, value):
        size = ops.abs(self._standardized(value))
        return (
            -size
            - 2.0 * ops.log1p(ops.exp(-size))
            - ops.log(self._tensor("scale"))
        )

    def _log_upper_tail(self, x):
        return -x - ops.log1p(ops.exp(-x))

    def _upper_quantile(self, q):
        return ops.log1p(-q) - ops.log(q)

    def _variance(self):
        return self._over_batch(
            np.pi**2 / 3.0 * ops.square(self._tensor("scale"))
        )

    def _stddev(self):
        return ops.sqrt(self._variance())

    def _entropy(self):
        return self._over_batch(ops.log(self._tensor("scale")) + 2.0)


class WithKL(Right):
    pass


NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)


def logistic_kl(p, q):
    """By quadrature: no closed form is known."""
    u = ops.convert_to_tensor(np.float32((NODES + 1) / 2))[:, None]
    weights = ops.convert_to_tensor(np.float32(WEIGHTS / 2))[:, None]
    x = p.quantile(u)
    return ops.sum(weights * (p.log_prob(x) - q.log_prob(x)), axis=0)


@tfd.RegisterKL(WithKL, WithKL)
def _(p, q, name=None):
    return logistic_kl(p, q)


class User(tfd.Distribution):
    """The code that each of the classes below would need.

    `positive` and `real` name the parameters, `size` is the size of an event,
    `outcomes` the dtype of draws if it is not that of the parameters.
    """

    positive = ("scale",)
    real = ("loc",)
    size: int | None = None
    outcomes: str | None = None
    kind = tfd.FULLY_REPARAMETERIZED

    def __init__(
        self, validate_args=False, allow_nan_stats=True, name="User", **tensors
    ):
        self._tensors = {
            k: ops.convert_to_tensor(
                v, None if hasattr(v, "dtype") else "float32"
            )
            for k, v in tensors.items()
        }
        super().__init__(
            dtype=self.outcomes or next(iter(self._tensors.values())).dtype,
            reparameterization_type=self.kind,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters={
                "validate_args": validate_args,
                "allow_nan_stats": allow_nan_stats,
                "name": name,
                **tensors,
            },
            name=name,
        )

    def __getattr__(self, name):
        tensors = self.__dict__.get("_tensors", {})
        if name in tensors:
            return tensors[name]
        raise AttributeError(name)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        properties = parameter_properties.ParameterProperties
        ndims = 0 if cls.size is None else 1
        found = {name: properties(event_ndims=ndims) for name in cls.real}
        for name in cls.positive:
            found[name] = properties(
                event_ndims=ndims,
                default_constraining_bijector_fn=tfb.Softplus,
            )
        return found

    def _parameter_control_dependencies(self, is_init):
        if not self.validate_args:
            return []
        return [
            assert_util.assert_positive(
                self._tensors[name], message=f"`{name}` must be positive."
            )
            for name in self.positive
            if name in self._tensors
        ]

    def _event_shape(self):
        if self.size is None:
            return ()
        return (next(iter(self._tensors.values())).shape[-1],)

    def _whole(self, n):
        return (n, *self.batch_shape, *self.event_shape)

    def _filled(self, value):
        """Broadcasts over batch and event."""
        zeros = ops.zeros((*self.batch_shape, *self.event_shape), self.dtype)
        return ops.cast(value, self.dtype) + zeros

    def _normal(self, n, seed):
        return samplers.normal(self._whole(n), dtype=self.dtype, seed=seed)

    def _uniform(self, n, seed):
        tiny = 1e-7
        return samplers.uniform(
            self._whole(n), tiny, 1.0 - tiny, dtype=self.dtype, seed=seed
        )


HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def log_normal(r):
    return -0.5 * ops.square(r) - HALF_LOG_2PI


class Laplace(User):
    """A density with a kink."""

    def _sample_n(self, n, seed=None):
        u = self._uniform(n, seed) - 0.5
        return self.loc - self.scale * ops.sign(u) * ops.log1p(
            -2.0 * ops.abs(u)
        )

    def _log_prob(self, value):
        r = ops.abs(value - self.loc) / self.scale
        return -r - ops.log(2.0 * self.scale)

    def _mean(self):
        return self._filled(self.loc)

    def _variance(self):
        return self._filled(2.0 * ops.square(self.scale))


class Exponential(User):
    positive = ("rate",)
    real = ()

    def _default_event_space_bijector(self):
        return tfb.Softplus()

    def _sample_n(self, n, seed=None):
        return -ops.log1p(-self._uniform(n, seed)) / self.rate

    def _log_prob(self, value):
        inside = ops.log(self.rate) - self.rate * value
        return ops.where(value < 0, ops.cast(-np.inf, inside.dtype), inside)

    def _cdf(self, value):
        return -ops.expm1(-self.rate * ops.maximum(value, 0.0))

    def _mean(self):
        return 1.0 / self.rate

    def _variance(self):
        return 1.0 / ops.square(self.rate)

    def _entropy(self):
        return 1.0 - ops.log(self.rate)


class EitherRate(Exponential):
    """Given by its rate or the logarithm of it."""

    positive = ("rate", "log_rate")

    def __init__(
        self,
        rate=None,
        log_rate=None,
        validate_args=False,
        allow_nan_stats=True,
        name="EitherRate",
    ):
        if (rate is None) == (log_rate is None):
            raise ValueError("Give one of rate and log_rate.")
        given = {"rate": rate} if log_rate is None else {"log_rate": log_rate}
        super().__init__(validate_args, allow_nan_stats, name, **given)
        self._parameters = self._no_dependency(
            {"rate": None, "log_rate": None} | dict(self._parameters)
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)

    def __getattr__(self, name):
        tensors = self.__dict__.get("_tensors", {})
        if name == "rate" and "log_rate" in tensors:
            return ops.exp(tensors["log_rate"])
        if name == "log_rate" and "rate" in tensors:
            return ops.log(tensors["rate"])
        return super().__getattr__(name)


class LogNormal(User):
    def _default_event_space_bijector(self):
        return tfb.Exp()

    def _sample_n(self, n, seed=None):
        return ops.exp(self.loc + self.scale * self._normal(n, seed))

    def _log_prob(self, value):
        log = ops.log(value)
        return (
            log_normal((log - self.loc) / self.scale)
            - ops.log(self.scale)
            - log
        )

    def _mean(self):
        return ops.exp(self.loc + 0.5 * ops.square(self.scale))


class Uniform(User):
    """Both ends move."""

    positive = ("width",)
    real = ("low",)

    def _default_event_space_bijector(self):
        return tfb.Chain(
            [tfb.Shift(self.low), tfb.Scale(self.width), tfb.Sigmoid()]
        )

    def _sample_n(self, n, seed=None):
        return self.low + self.width * self._uniform(n, seed)

    def _log_prob(self, value):
        inside = (value >= self.low) & (value <= self.low + self.width)
        log = -ops.log(self.width) + ops.zeros_like(value)
        return ops.where(inside, log, ops.cast(-np.inf, log.dtype))

    def _mean(self):
        return self.low + 0.5 * self.width


class MixtureOfTwo(User):
    """By `logaddexp`, which Keras computes in float32 on JAX."""

    def _parts(self, value):
        r = (value - self.loc) / self.scale
        return log_normal(r - 1.0), log_normal(r + 1.3)

    def _sample_n(self, n, seed=None):
        first, second = samplers.split_seed(seed, n=2)
        side = ops.where(self._uniform(n, second) < 0.5, 1.0, -1.3)
        return self.loc + self.scale * (self._normal(n, first) + side)

    def _log_prob(self, value):
        log = ops.logaddexp(*self._parts(value)) - math.log(2.0)
        return log - ops.log(self.scale)


class ByMean(MixtureOfTwo):
    """By `mean`, which Keras also computes in float32 on JAX."""

    def _log_prob(self, value):
        parts = ops.stack(self._parts(value), axis=-1)
        most = ops.max(parts, axis=-1, keepdims=True)
        log = ops.log(ops.mean(ops.exp(parts - most), axis=-1))
        return log + most[..., 0] - ops.log(self.scale)


class Counts(User, DiscreteDistributionMixin):
    kind = tfd.NOT_REPARAMETERIZED

    def _sample_control_dependencies(self, value):
        if not self.validate_args:
            return []
        return [assert_util.assert_non_negative(value, message="not a count")]


class Geometric(Counts):
    """Failures at the odds `rate`."""

    positive = ("rate",)
    real = ()

    def _sample_n(self, n, seed=None):
        log_p = -ops.log1p(1.0 / self.rate)
        return ops.floor(ops.log(self._uniform(n, seed)) / log_p)

    def _log_prob(self, value):
        return -value * ops.log1p(1.0 / self.rate) - ops.log1p(self.rate)

    def _mean(self):
        return self._filled(self.rate)

    def _variance(self):
        return self.rate * (1.0 + self.rate)

    def _entropy(self):
        p = 1.0 / (1.0 + self.rate)
        return -((1.0 - p) * ops.log1p(-p) + p * ops.log(p)) / p


class Poisson(Counts):
    positive = ("rate",)
    real = ()

    def _sample_n(self, n, seed=None):
        return tfd.Poisson(self.rate).sample(n, seed=seed)

    def _log_prob(self, value):
        return tfd.Poisson(self.rate).log_prob(value)

    def _mean(self):
        return self._filled(self.rate)

    def _variance(self):
        return self._filled(self.rate)

    def _mode(self):
        return ops.floor(self.rate)


class Die(User):
    """Discrete only by its dtype."""

    positive = ("weight",)
    real = ()
    kind = tfd.NOT_REPARAMETERIZED
    outcomes = "int32"

    def _log_probs(self):
        """A six weighs more."""
        weight = self.weight[..., None]
        ones = ops.ones_like(weight)
        weights = ops.concatenate([*[ones] * 5, weight], axis=-1)
        return ops.log(weights / ops.sum(weights, axis=-1, keepdims=True))

    def _sample_n(self, n, seed=None):
        inner = tfd.Categorical(logits=self._log_probs())
        return inner.sample(n, seed=seed) + 1

    def _log_prob(self, value):
        inside = (value >= 1) & (value <= 6)
        index = ops.clip(value - 1, 0, 5)
        found = tfd.Categorical(logits=self._log_probs()).log_prob(index)
        return ops.where(inside, found, -np.inf)

    def _mean(self):
        return 6.0 - 15.0 / (5.0 + self.weight)


class Trials(Counts):
    """With integer parameters that differ in a batch."""

    positive = ("odds",)
    real = ("n",)

    def _inner(self):
        return tfd.Binomial(ops.cast(self.n, "float32"), ops.log(self.odds))

    def _sample_n(self, n, seed=None):
        return self._inner().sample(n, seed=seed)

    def _log_prob(self, value):
        inside = value <= ops.cast(self.n, value.dtype)
        x = ops.where(inside, value, 0.0)
        return ops.where(inside, self._inner().log_prob(x), -np.inf)


class Inflated(Poisson):
    """Half of the counts are 0."""

    def _sample_n(self, n, seed=None):
        first, second = samplers.split_seed(seed, n=2)
        draws = super()._sample_n(n, first)
        return ops.where(self._uniform(n, second) < 0.5, 0.0, draws)

    def _log_prob(self, value):
        log = super()._log_prob(value) - math.log(2.0)
        at_zero = ops.log(0.5 + 0.5 * ops.exp(-self.rate))
        return ops.where(value == 0, at_zero, log)

    def _mean(self):
        return 0.5 * self.rate

    def _variance(self):
        return 0.5 * self.rate + 0.25 * ops.square(self.rate)

    _mode = tfd.Distribution._mode


class Pair(User):
    """Independent normals, as one event."""

    size = 2

    def _sample_n(self, n, seed=None):
        return self.loc + self.scale * self._normal(n, seed)

    def _log_prob(self, value):
        r = (value - self.loc) / self.scale
        return ops.sum(log_normal(r) - ops.log(self.scale), axis=-1)

    def _mean(self):
        return self._filled(self.loc)

    def _variance(self):
        return self._filled(ops.square(self.scale))

    def _mode(self):
        return self._filled(self.loc)

    def _entropy(self):
        whole = self._filled(self.scale)
        return ops.sum(HALF_LOG_2PI + 0.5 + ops.log(whole), axis=-1)

    def _covariance(self):
        square = self._filled(ops.square(self.scale))
        return square[..., None] * ops.eye(2, dtype=square.dtype)


class Chained(Pair):
    """The second number follows the first."""

    def _sample_n(self, n, seed=None):
        e = self._normal(n, seed)
        along = ops.stack([e[..., 0], e[..., 0] + e[..., 1]], axis=-1)
        return self.loc + self.scale * along

    def _log_prob(self, value):
        r = (value - self.loc) / self.scale
        e = ops.stack([r[..., 0], r[..., 1] - r[..., 0]], axis=-1)
        return ops.sum(log_normal(e) - ops.log(self.scale), axis=-1)

    def _variance(self):
        twice = ops.convert_to_tensor(np.array([1.0, 2.0], "float32"))
        return self._filled(ops.square(self.scale) * twice)

    _covariance = tfd.Distribution._covariance


class LogitNormalPair(Pair):
    """A density in the unit square."""

    def _default_event_space_bijector(self):
        return tfb.Sigmoid()

    def _sample_n(self, n, seed=None):
        return ops.sigmoid(super()._sample_n(n, seed))

    def _log_prob(self, value):
        logit = ops.log(value) - ops.log1p(-value)
        volume = ops.sum(ops.log(value) + ops.log1p(-value), axis=-1)
        return super()._log_prob(logit) - volume

    _mean = tfd.Distribution._mean
    _variance = tfd.Distribution._variance
    _mode = tfd.Distribution._mode
    _entropy = tfd.Distribution._entropy
    _covariance = tfd.Distribution._covariance


class SmallMatrix(Pair):
    """Two rows of two normals."""

    def _event_shape(self):
        return (2, 2)

    def _normals(self):
        return tfd.Normal(self.loc[..., None, :], self.scale[..., None, :])

    def _sample_n(self, n, seed=None):
        e = self._normal(n, seed)
        return self.loc[..., None, :] + self.scale[..., None, :] * e

    def _log_prob(self, value):
        return ops.sum(self._normals().log_prob(value), axis=(-2, -1))

    def _mean(self):
        return self._filled(self.loc[..., None, :])

    def _variance(self):
        return self._filled(ops.square(self.scale)[..., None, :])

    def _mode(self):
        return self._mean()

    def _entropy(self):
        whole = self._filled(self.scale[..., None, :])
        return ops.sum(HALF_LOG_2PI + 0.5 + ops.log(whole), axis=(-2, -1))

    _covariance = tfd.Distribution._covariance


class Single(Laplace):
    """Made only for float32."""

    def _log_prob(self, value):
        if "64" in keras.backend.standardize_dtype(value.dtype):
            raise TypeError("float32 alone")
        return super()._log_prob(value)


#: Nineteen right targets of users, and the options that they need.
USERS = [
    (Right, {}),
    (WithKL, {}),
    *(
        (cls, {})
        for cls in (
            Laplace,
            Exponential,
            EitherRate,
            LogNormal,
            Uniform,
            MixtureOfTwo,
            ByMean,
            Geometric,
            Poisson,
            Die,
            Inflated,
            Pair,
            Chained,
            LogitNormalPair,
            SmallMatrix,
            Single,
        )
    ),
    (Trials(odds=np.float32([0.5, 1.0, 2.0]), n=np.array([3, 5, 7])), {}),
]
