"""Faults of the kinds that users make, each with the checks that catch it.

`FAULTS` is a list of (target, checks): a class or an instance, and the names of
the checks that must fail. `benchmarks/kit.py` prints their messages.
"""

import keras
import numpy as np
from keras import ops
from right_targets import (
    Counts,
    Exponential,
    LogNormal,
    Pair,
    Poisson,
    Right,
    SmallMatrix,
    Uniform,
    logistic_kl,
)

from tfp_vae.substrate import samplers, tfb, tfd


class NoNormalizer(Right):
    def _log_prob(self, value):
        return super()._log_prob(value) + 0.1


class NoJacobian(Right):
    def _log_prob(self, value):
        return super()._log_prob(value) + ops.log(self._tensor("scale"))


class OtherProb(Right):
    def _prob(self, value):
        return 2.0 * ops.exp(self._log_prob(value))


class CdfOfTheOtherTail(Right):
    def _cdf(self, value):
        return 1.0 - super()._cdf(value)


class LogCdfApart(Right):
    def _log_cdf(self, value):
        return super()._log_cdf(value) - 0.1


class QuantileOff(Right):
    def _quantile(self, value):
        return super()._quantile(value) + 0.1 * self._tensor("scale")


class QuantileOffByHalfAPercent(Right):
    def _quantile(self, value):
        loc = self._tensor("loc")
        return loc + 1.005 * (super()._quantile(value) - loc)


class QuantileNanInTheTails(Right):
    def _quantile(self, value):
        inside = ops.abs(value - 0.5) < 0.495
        return ops.where(inside, super()._quantile(value), np.nan)


class SamplerOffByAFactor(Right):
    def _sample_n(self, n, seed=None):
        loc = self._tensor("loc")
        return loc + 1.1 * (super()._sample_n(n, seed) - loc)


class SamplerWithoutLoc(Right):
    def _sample_n(self, n, seed=None):
        return super()._sample_n(n, seed) - self._tensor("loc")


class OneDrawForAll(Right):
    def _sample_n(self, n, seed=None):
        draw = super()._sample_n(1, seed)
        return draw + ops.zeros((n, *self.batch_shape), draw.dtype)


class InfiniteOnceInAWhile(Right):
    """As of a sampler that takes the logarithm of a uniform number of 0."""

    def _sample_n(self, n, seed=None):
        draws = super()._sample_n(n, seed)
        return ops.where(ops.arange(n)[:, None] == 7, np.inf, draws)


class CommonNoise(Right):
    def _sample_n(self, n, seed=None):
        draws = super()._sample_n(n, seed)
        loc, scale = self._tensor("loc"), self._tensor("scale")
        return loc + scale * ((draws - loc) / scale)[..., :1]


class SeedIgnored(Right):
    def _sample_n(self, n, seed=None):
        noise = np.random.default_rng(0).random((n, *self.batch_shape))
        return self._quantile(ops.convert_to_tensor(noise, "float32"))


class SeedNotRepeated(Right):
    def _sample_n(self, n, seed=None):
        noise = np.random.default_rng().random((n, *self.batch_shape))
        return self._quantile(ops.convert_to_tensor(noise, "float32"))


class ShapeLost(Right):
    def _sample_n(self, n, seed=None):
        return super()._sample_n(n, seed)[..., :1]


class VarianceOff(Right):
    def _variance(self):
        return 3.0 * self._tensor("scale") ** 2


class StddevIsVariance(Right):
    def _stddev(self):
        return self._variance()


class ModeOff(Right):
    def _mode(self):
        return self._tensor("loc") + 1.0


class ModeNan(Right):
    def _mode(self):
        return (
            self._tensor("loc") + ops.zeros_like(self._tensor("scale")) * np.nan
        )


class EntropyInBits(Right):
    def _entropy(self):
        return super()._entropy() / np.log(2.0).astype("float32")


class LogProbOverridden(tfd.Logistic):
    """The classic: wrappers call `_log_prob`, which is still the parent's."""

    def __init__(
        self,
        loc,
        scale,
        validate_args=False,
        allow_nan_stats=True,
        name="LogProbOverridden",
    ):
        super().__init__(loc, scale, validate_args, allow_nan_stats, name)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)

    def log_prob(self, value, name="log_prob", **kwargs):
        return tfd.Normal(self.loc, self.scale).log_prob(value)


class Float64Leaks(Right):
    def _entropy(self):
        return ops.cast(super()._entropy(), "float64")


class NanGradientAtZero(Right):
    def _log_prob(self, value):
        square = ops.square(self._standardized(value))
        size = ops.exp(0.5 * ops.log(square))
        return (
            -size
            - 2.0 * ops.log1p(ops.exp(-size))
            - ops.log(self._tensor("scale"))
        )


class GradientStopped(Right):
    def _log_prob(self, value):
        scale = self._tensor("scale")
        stopped = Right(self._tensor("loc"), ops.stop_gradient(scale))
        return stopped._log_prob(value)


class GradientOffByTwoPercent(Right):
    """Like a rounded constant in a backward pass."""

    def _log_prob(self, value):
        scale = self._tensor("scale")
        near = scale + 0.02 * (scale - ops.stop_gradient(scale))
        return Right(self._tensor("loc"), near)._log_prob(value)


class GradientOfValueStopped(Right):
    def _log_prob(self, value):
        return super()._log_prob(ops.stop_gradient(value))


class SlopeOffAtOne(Right):
    """The effect of a `minimum` and a `maximum` that meet there."""

    def _log_prob(self, value):
        r = self._standardized(value)
        twice = 2.0 * r - ops.stop_gradient(r)
        one = Right(ops.zeros_like(r))
        return one._log_prob(ops.where(ops.abs(r) == 1.0, twice, r)) - ops.log(
            self._tensor("scale")
        )


class SumsOverTheBatch(Right):
    def _log_prob(self, value):
        each = super()._log_prob(value)
        return each + ops.mean(each, axis=-1, keepdims=True) * 0.01


class OnlyStepByStep(Right):
    def _log_prob(self, value):
        keras.ops.convert_to_numpy(self._tensor("scale"))
        return super()._log_prob(value)


class ChecksNothing(Right):
    def _parameter_control_dependencies(self, is_init):
        return []


class KLSwapped(Right):
    pass


class KLNegative(Right):
    pass


@tfd.RegisterKL(KLSwapped, KLSwapped)
def _(p, q, name=None):
    return logistic_kl(q, p)


@tfd.RegisterKL(KLNegative, KLNegative)
def _(p, q, name=None):
    return -logistic_kl(p, q)


class WrongSupport(Right):
    def _default_event_space_bijector(self):
        return tfb.Softplus()


# Errors instead of a result.


class Typo(Right):
    def _log_prob(self, value):
        return super()._log_prob(value) - self._sclae


class TypoInEntropy(Right):
    def _entropy(self):
        return ops.log(self._tensor("scale")) + self.constant


class EntropyToBeDone(Right):
    def _entropy(self):
        raise NotImplementedError("to be done")


class MeanOfNoCovariance(Right):
    """Calls a method that does not exist."""

    def _mean(self):
        return self.covariance()


class CopyBroken(tfd.Logistic):
    """Another name for `loc`, but the parameters of the parent."""

    def __init__(self, middle, scale, name="CopyBroken"):
        super().__init__(middle, scale, name=name)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        found = dict(super()._parameter_properties(dtype, num_classes))
        return {"middle": found["loc"], "scale": found["scale"]}


class RefusesTheRight(Right):
    def _parameter_control_dependencies(self, is_init):
        if self.validate_args:
            self.check_everything()
        return []


class Float32AndWrong(Right):
    """Cannot be made in float64, and has a wrong gradient."""

    def _log_prob(self, value):
        if "64" in keras.backend.standardize_dtype(value.dtype):
            raise TypeError("float32 alone")
        return super()._log_prob(ops.stop_gradient(value))


# Tails.


class NaiveLogistic(Right):
    def _log_prob(self, value):
        e = ops.exp(self._standardized(value))
        return ops.log(e / ops.square(1.0 + e)) - ops.log(self._tensor("scale"))


class NanInTheTailAndMore(NaiveLogistic):
    def _log_prob(self, value):
        return super()._log_prob(value) + 5.0

    def _variance(self):
        return 2.0 * super()._variance()


class Floored(Right):
    """The habit of adding a small number before a logarithm."""

    def _log_prob(self, value):
        return ops.log(ops.exp(super()._log_prob(value)) + 1e-7)


class Underflows(Right):
    def _log_prob(self, value):
        e = ops.exp(-ops.abs(self._standardized(value)))
        return ops.log(e / ops.square(1.0 + e) / self._tensor("scale"))


class NaiveLogCosh(Right):
    """The hyperbolic secant by its formula, which overflows at 89."""

    def _log_prob(self, value):
        r = self._standardized(value) * (np.pi / 2)
        return -ops.log(2.0 * ops.cosh(r)) - ops.log(self._tensor("scale"))


class SupportCutOff(Right):
    """States a support that begins at 5, where its density is not 0."""

    def _default_event_space_bijector(self):
        return tfb.Chain([tfb.Shift(np.float32(5.0)), tfb.Softplus()])


class NotIntegrable(Right):
    def _log_prob(self, value):
        return -ops.log(1.0 + ops.abs(self._standardized(value)))


class NanAtZero(Exponential):
    def _log_prob(self, value):
        return super()._log_prob(value) + 0.0 * ops.log(value - 1.0)


# Ends of the support.


class AllOfTheLine(Exponential):
    """A density for x < 0, and a cdf that is negative there."""

    def _log_prob(self, value):
        return ops.log(self.rate) - self.rate * value


class UniformEverywhere(Uniform):
    def _log_prob(self, value):
        return -ops.log(self.width) + ops.zeros_like(value)


class NegativeCounts(Counts):
    positive = ("rate",)
    real = ()

    def _sample_control_dependencies(self, value):
        return []

    def _sample_n(self, n, seed=None):
        log_p = -ops.log1p(1.0 / self.rate)
        return ops.floor(ops.log(self._uniform(n, seed)) / log_p)

    def _log_prob(self, value):
        return -value * ops.log1p(1.0 / self.rate) - ops.log1p(self.rate)


class LeavesTheSupport(Exponential):
    def _sample_n(self, n, seed=None):
        return super()._sample_n(n, seed) - 0.01


class UniformOffByTwo(Uniform):
    """A density that is finite at both ends of its support, and wrong."""

    def _log_prob(self, value):
        return super()._log_prob(value) + np.log(2.0).astype("float32")


# Counts without an upper end.


class PoissonVariance(Poisson):
    def _variance(self):
        return self._filled(ops.square(self.rate))


class PoissonMean(Poisson):
    def _mean(self):
        return self.rate + 1.0


class PoissonMeanNan(Poisson):
    def _mean(self):
        return self.rate * float("nan")


class PoissonEntropy(Poisson):
    """The tails of a normal with the same variance."""

    def _entropy(self):
        return 0.5 * ops.log(2.0 * np.pi * np.e * self.rate)


class PoissonSampler(Poisson):
    def _sample_n(self, n, seed=None):
        return super()._sample_n(n, seed) + 1.0


class PoissonMode(Poisson):
    def _mode(self):
        return ops.floor(self.rate) + 2.0


class PoissonUnnormalized(Poisson):
    """The factorial is forgotten."""

    def _log_prob(self, value):
        return value * ops.log(self.rate) - self.rate


class PoissonKL(Poisson):
    pass


@tfd.RegisterKL(PoissonKL, PoissonKL)
def _(p, q, name=None):
    return p.rate * ops.log(p.rate / q.rate)


# Vectors.


class MeanOverTheEvent(Pair):
    def _log_prob(self, value):
        return 0.5 * super()._log_prob(value)


class NoLogDeterminant(Pair):
    def _log_prob(self, value):
        return super()._log_prob(value) + ops.sum(ops.log(self.scale), axis=-1)


class PairUnnormalized(Pair):
    def _log_prob(self, value):
        return super()._log_prob(value) + 0.1


class OtherScaleInTheSampler(Pair):
    def _sample_n(self, n, seed=None):
        noise = super()._sample_n(n, seed) - self.loc
        return self.loc + 1.2 * noise

    _variance = tfd.Distribution._variance
    _covariance = tfd.Distribution._covariance


class ScaleIsVariance(Pair):
    """`sqrt(scale)` only in log_prob."""

    def _log_prob(self, value):
        r = (value - self.loc) / ops.sqrt(self.scale)
        log = -0.5 * ops.square(r) - 0.5 * np.log(2.0 * np.pi)
        return ops.sum(log - 0.5 * ops.log(self.scale), axis=-1)


class PairEntropy(Pair):
    def _entropy(self):
        return 0.5 * super()._entropy()


class PairMode(Pair):
    def _mode(self):
        return super()._mode() + 0.3 * self.scale


class PairMean(Pair):
    def _mean(self):
        return super()._mean() + 0.3 * self.scale


class PairVariance(Pair):
    def _variance(self):
        return self._filled(self.scale)


class PairCovariance(Pair):
    def _covariance(self):
        return 1.3 * super()._covariance()


class OneNoiseForTheEvent(Pair):
    def _sample_n(self, n, seed=None):
        noise = samplers.normal((n, *self.batch_shape, 1), seed=seed)
        return self.loc + self.scale * noise


class NotSummedOverTheEvent(Pair):
    def _log_prob(self, value):
        r = (value - self.loc) / self.scale
        return -0.5 * ops.square(r) - ops.log(self.scale)


class MatrixOfOneRow(SmallMatrix):
    """The second row does not count."""

    def _log_prob(self, value):
        return ops.sum(self._normals().log_prob(value)[..., 0, :], axis=-1)


class MatrixHalfScale(SmallMatrix):
    def _sample_n(self, n, seed=None):
        loc = self.loc[..., None, :]
        return loc + 0.8 * (super()._sample_n(n, seed) - loc)

    _variance = tfd.Distribution._variance


# Gradients of draws.


class DrawsStopped(Right):
    def _sample_n(self, n, seed=None):
        return ops.stop_gradient(super()._sample_n(n, seed))


class ScaleOfDrawsStopped(Right):
    def _sample_n(self, n, seed=None):
        loc, scale = self._tensor("loc"), self._tensor("scale")
        return Right(loc, ops.stop_gradient(scale))._sample_n(n, seed)


class PairDrawsStopped(Pair):
    def _sample_n(self, n, seed=None):
        return ops.stop_gradient(super()._sample_n(n, seed))


class UniformDrawsStopped(Uniform):
    """The score function does not apply, since the ends move."""

    def _sample_n(self, n, seed=None):
        u = self._uniform(n, seed)
        return self.low + ops.stop_gradient(self.width) * u


class DrawsOfTwiceTheSlope(LogNormal):
    def _sample_n(self, n, seed=None):
        x = super()._sample_n(n, seed)
        return 2.0 * x - ops.stop_gradient(x)


# Other batches, and draws that depend on each other.


class NoiseOfLoc(Right):
    def _sample_n(self, n, seed=None):
        loc = self._tensor("loc")
        u = samplers.uniform((n, *loc.shape), 1e-6, 1.0 - 1e-6, seed=seed)
        return loc + self._tensor("scale") * (ops.log(u) - ops.log1p(-u))


class MeanOfLocAlone(Right):
    def _mean(self):
        return self._tensor("loc")


class NeedsABatch(Right):
    def _log_prob(self, value):
        scale = self._tensor("scale")
        return super()._log_prob(value) + 0.0 * scale[..., :1]


class Antithetic(Right):
    def _sample_n(self, n, seed=None):
        first = super()._sample_n((n + 1) // 2, seed)
        other = 2.0 * self._tensor("loc") - first
        return ops.concatenate([first, other], axis=0)[:n]


class AntitheticNeighbours(Right):
    def _sample_n(self, n, seed=None):
        first = super()._sample_n((n + 1) // 2, seed)
        both = ops.stack([first, 2.0 * self._tensor("loc") - first], axis=1)
        return ops.reshape(both, (-1, *self.batch_shape))[:n]


class RandomWalk(Right):
    """Neighbours are correlated."""

    def _sample_n(self, n, seed=None):
        r = ops.arange(n, dtype="float32")
        wave = 0.5 + 0.499 * ops.sin(0.01 * r)
        shape = (n, *[1] * len(self.batch_shape))
        u = ops.reshape(wave, shape) + 0.0 * super()._sample_n(n, seed)
        return self._quantile(u)


class EachTwice(Right):
    def _sample_n(self, n, seed=None):
        first = super()._sample_n((n + 1) // 2, seed)
        return ops.repeat(first, 2, axis=0)[:n]


class PrintsOnly(Right):
    """A message of TensorFlow that begins with `in user code:`."""

    def _log_prob(self, value):
        if float(ops.sum(value)) > 1e9:
            return 0.0 * value
        return super()._log_prob(value)


def scalar(cls):
    """An instance of batch shape ()."""
    return cls(loc=np.float32(0.3), scale=np.float32(0.7))


# The check meant for each fault. Some faults break more than one rule.
FAULTS = [
    (NoNormalizer, {"normalization"}),
    (NoJacobian, {"normalization"}),
    (WrongSupport, {"normalization"}),
    (OtherProb, {"prob"}),
    (CdfOfTheOtherTail, {"cdf"}),
    (LogCdfApart, {"cdf"}),
    (QuantileOffByHalfAPercent, {"quantile"}),
    (QuantileNanInTheTails, {"quantile"}),
    (QuantileOff, {"quantile"}),
    (SamplerOffByAFactor, {"samples", "sample_moments"}),
    (SamplerWithoutLoc, {"samples", "sample_moments"}),
    (InfiniteOnceInAWhile, {"samples"}),
    (OneDrawForAll, {"samples", "independent_draws"}),
    (CommonNoise, {"independent_draws"}),
    (SeedIgnored, {"seeds"}),
    (SeedNotRepeated, {"seeds"}),
    (ShapeLost, {"sample_shapes"}),
    (VarianceOff, {"moments", "sample_moments"}),
    (StddevIsVariance, {"moments"}),
    (ModeNan, {"mode"}),
    (ModeOff, {"mode"}),
    (EntropyInBits, {"entropy"}),
    (LogProbOverridden, {"independent"}),
    (Float64Leaks, {"dtype"}),
    (NanGradientAtZero, {"finite_gradients"}),
    (GradientOffByTwoPercent, {"gradients"}),
    (GradientStopped, {"gradients"}),
    (GradientOfValueStopped, {"gradients"}),
    (SlopeOffAtOne, {"gradients"}),
    (SumsOverTheBatch, {"batch"}),
    (OnlyStepByStep, {"jit"}),
    (ChecksNothing, {"validate_args"}),
    (KLSwapped, {"kl"}),
    (KLNegative, {"kl"}),
    (Typo, {"normalization", "samples", "gradients", "jit"}),
    (TypoInEntropy, {"entropy"}),
    (EntropyToBeDone, {"entropy"}),
    (MeanOfNoCovariance, {"moments"}),
    (CopyBroken, {"copy"}),
    (RefusesTheRight, {"validate_args"}),
    (Float32AndWrong, {"gradients"}),
    (NaiveLogistic, {"normalization"}),
    (NanInTheTailAndMore, {"normalization", "moments"}),
    (Floored, {"normalization"}),
    (Underflows, {"tails"}),
    (NaiveLogCosh, {"tails"}),
    (SupportCutOff, {"normalization"}),
    (NotIntegrable, {"normalization"}),
    (NanAtZero, {"normalization"}),
    (AllOfTheLine, {"outside"}),
    (UniformEverywhere, {"outside"}),
    (NegativeCounts, {"outside"}),
    (LeavesTheSupport, {"samples"}),
    (UniformOffByTwo, {"normalization"}),
    (PoissonVariance, {"moments", "sample_moments"}),
    (PoissonMean, {"moments", "sample_moments"}),
    (PoissonMeanNan, {"moments"}),
    (PoissonEntropy, {"entropy"}),
    (PoissonSampler, {"samples", "sample_moments"}),
    (PoissonMode, {"mode"}),
    (PoissonUnnormalized, {"normalization"}),
    (PoissonKL, {"kl"}),
    (MeanOverTheEvent, {"normalization"}),
    (NoLogDeterminant, {"normalization"}),
    (PairUnnormalized, {"normalization"}),
    (OtherScaleInTheSampler, {"samples", "stein"}),
    (ScaleIsVariance, {"samples", "stein", "moments"}),
    (PairEntropy, {"entropy"}),
    (PairMode, {"mode"}),
    (PairMean, {"moments", "sample_moments"}),
    (PairVariance, {"moments", "sample_moments"}),
    (PairCovariance, {"moments"}),
    (OneNoiseForTheEvent, {"stein"}),
    (NotSummedOverTheEvent, {"batch"}),
    (MatrixOfOneRow, {"stein"}),
    (MatrixHalfScale, {"samples", "stein"}),
    (DrawsStopped, {"sample_gradients"}),
    (ScaleOfDrawsStopped, {"sample_gradients"}),
    (PairDrawsStopped, {"sample_gradients"}),
    (UniformDrawsStopped, {"sample_gradients"}),
    (DrawsOfTwiceTheSlope, {"sample_gradients"}),
    (NoiseOfLoc, {"broadcast"}),
    (MeanOfLocAlone, {"broadcast"}),
    (NeedsABatch, {"broadcast"}),
    (Antithetic, {"independent_draws"}),
    (AntitheticNeighbours, {"independent_draws"}),
    (RandomWalk, {"independent_draws"}),
    (EachTwice, {"independent_draws"}),
    (PrintsOnly, {"jit"}),
    (scalar(EntropyInBits), {"entropy"}),
    (scalar(DrawsStopped), {"sample_gradients"}),
    (scalar(NoNormalizer), {"normalization"}),
]


def name_of(target):
    """The name of a class, or of an instance."""
    if isinstance(target, type):
        return target.__name__
    return f"{type(target).__name__}()"
