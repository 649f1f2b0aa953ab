"""Integrals over the density of a vector or a matrix, by sampling.

For a continuous one by importance sampling, E_p[f] = E_g[f p / g]: g is a
multivariate Student-t around the draws, in the unconstrained space of the
default bijector. Only log_prob is trusted; draws show where to look. For a
discrete one by the sum over all outcomes that were drawn.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, tfb, tfd, tfp
from tfp_vae.testing.mass import Array, first_place
from tfp_vae.testing.verdicts import NotApplicable

__all__ = ["SIGMAS", "Sampled", "sampled_mass", "scores", "unconstrained"]

# A `tfp_vae.testing.case.Case`, which itself imports this module.
Case: TypeAlias = Any

#: Standard errors at which a statistic fails: once in 4e11 if normal.
SIGMAS = 7.0
# Numbers in an event up to which importance sampling is tried.
_MOST_NUMBERS = 12
# Degrees of freedom of the proposal.
_DF = 5.0
_DRAWS = 2**15
# The standard error of the total mass above which the check is void.
_TOO_LARGE = 0.02
# The share of numbers of draws that a bijector may fail to recover.
_LOST = 0.01
# The largest number of distinct outcomes in a sum.
_MOST_OUTCOMES = 4096


class Sampled(NamedTuple):
    """Weighted values.

    Attributes:
        x: `[n, *batch, *event]`.
        log_prob: `[n, *batch]`.
        weights: `[n, *batch]`, whose mean is the total mass.
        flaw: a place where the density is NaN, or nothing.
        counts: how often each outcome was drawn, `[n, *batch]`, or None if
            these are not outcomes.
        unseen: the mass of outcomes that were not drawn, `batch`.
    """

    x: Array
    log_prob: Array
    weights: Array
    flaw: str
    counts: Array | None = None
    unseen: Array = np.zeros(())

    def total(self) -> tuple[Array, Array]:
        """The whole mass, and seven standard errors of it, `batch` each."""
        error = SIGMAS * self.weights.std(axis=0) / math.sqrt(len(self.x))
        # A sum over outcomes has only the error of the missing outcomes.
        return (
            self.weights.mean(axis=0),
            error if self.counts is None else self.unseen,
        )

    def mean_of(self, values: Array) -> tuple[Array, Array]:
        """The mean of `[n, *batch, ...]` values, and seven standard errors."""
        dims = [1] * (values.ndim - self.weights.ndim)
        weights = self.weights.reshape(*self.weights.shape, *dims)
        with np.errstate(all="ignore"):
            terms = np.where(weights > 0, weights * values, 0.0)
            whole = weights.sum(axis=0)
            mean = terms.sum(axis=0) / whole
            apart = np.where(weights > 0, weights * (values - mean), 0.0)
            error = np.sqrt(np.square(apart).sum(axis=0)) / whole
        if self.counts is not None:
            unseen = self.unseen.reshape(*self.unseen.shape, *dims)
            return mean, unseen * np.abs(values).max(axis=0)
        # A term with a great part of the error hides others like it.
        most = np.maximum(error * whole, 1e-30)
        tame = np.abs(apart).max(axis=0) <= 0.3 * most
        return np.where(tame, mean, np.nan), SIGMAS * error


def sampled_mass(case: Case) -> Sampled:
    """The mass of an event that is not a scalar.

    Args:
        case: the case.

    Returns:
        The values and their weights.

    Raises:
        NotApplicable: if the standard error would be too large.
    """
    return _outcomes(case) if case.is_discrete else _importance(case)


def _bijector(distribution: tfd.Distribution) -> Any:
    try:
        found = distribution.experimental_default_event_space_bijector()
    except NotImplementedError:
        found = None
    # The bijector of a mixture is None.
    return found or tfb.Identity()


def unconstrained(case: Case, x: Array) -> Array:
    """Draws `[n, *batch, *event]` in the space of the default bijector.

    Raises:
        NotApplicable: if some numbers of an event are discrete, or if the
            bijector has no inverse there.
    """
    flat = x.reshape(len(x), *case.batch_shape, -1)
    spread = np.sort(flat, axis=0)
    if ((np.diff(spread, axis=0) == 0).mean(axis=0) > 0.5).any():
        raise NotApplicable("some numbers of the event are outcomes")

    def round_trip(distribution: tfd.Distribution, x: Tensor) -> Any:
        z = _bijector(distribution).inverse(x)
        # A new one, since a bijector may cache the x for a z.
        return {"z": z, "x": _bijector(distribution).forward(z + 0.0)}

    found = case.over_rows(round_trip, "unconstrained", x)
    # Next to a boundary, rounding may spoil a few of them.
    apart = np.abs(found["x"] - x) > 0.1 * np.ptp(x, axis=0)
    if apart.mean() > _LOST:
        raise NotApplicable(
            "the default event space bijector does not come back to the draws, "
            "as one to unit vectors that loses signs"
        )
    return found["z"]


def _log_density(
    distribution: tfd.Distribution, z: Tensor, ndims: int
) -> tuple[Tensor, Tensor, Tensor]:
    """x, log p(x), and the log density of z."""
    bijector = _bijector(distribution)
    x = bijector.forward(z)
    log_prob = distribution.log_prob(x)
    volume = bijector.forward_log_det_jacobian(z, event_ndims=ndims)
    return x, log_prob, log_prob + volume


def scores(case: Case, z: Array) -> Array:
    """The gradient of the log density of z in z, of the shape of z."""
    ndims = z.ndim - 1 - len(case.batch_shape)

    def slopes(distribution: tfd.Distribution, z: Tensor) -> dict[str, Tensor]:
        def total(z: Tensor) -> Tensor:
            return ops.sum(_log_density(distribution, z, ndims)[2])

        return {"score": tfp.math.value_and_gradient(total, z)[1]}

    return case.over_rows(slopes, "scores", z)["score"]


def _importance(case: Case) -> Sampled:
    size = math.prod(case.event_shape)
    if size > _MOST_NUMBERS:
        raise NotApplicable(
            f"events of {size} numbers are too many for importance sampling"
        )
    if case.hints is None:
        raise NotApplicable("no finite draws to begin with")
    draws = unconstrained(case, case.first_draws[:4096])
    batch = case.batch_shape
    z_shape = draws.shape[1 + len(batch) :]
    flat = draws.reshape(len(draws), math.prod(batch), -1)
    z = np.empty((_DRAWS, *flat.shape[1:]))
    log_g = np.empty(z.shape[:2])
    random = np.random.default_rng(0)
    for i in range(flat.shape[1]):
        z[:, i], log_g[:, i] = _proposal(flat[:, i], random)
    ndims = len(z_shape)

    def density(distribution: tfd.Distribution, z: Tensor) -> dict[str, Tensor]:
        x, log_prob, log_z = _log_density(distribution, z, ndims)
        return {"x": x, "log_prob": log_prob, "log_z": log_z}

    found = case.over_rows(
        density, "density", z.reshape(_DRAWS, *batch, *z_shape)
    )
    log_prob = found["log_prob"]
    if log_prob.shape != (_DRAWS, *batch):
        raise NotApplicable("log_prob has another shape")
    log_weight = found["log_z"] - log_g.reshape(_DRAWS, *batch)
    if z_shape == (size - 1,) and case.event_shape == (size,):
        # TFP's bijector to the simplex measures area, but a density is over all
        # numbers except the last.
        log_weight -= 0.5 * math.log(size)
    inside = np.isfinite(found["x"]).reshape(_DRAWS, *batch, -1).all(axis=-1)
    flaw = ""
    # Far out a bijector may round to the boundary, which is not a fault.
    near = log_g.reshape(_DRAWS, *batch) >= np.quantile(log_g, 0.2)
    bad = np.isnan(log_prob) & inside & near
    if bad.any():
        at = first_place(bad)
        flaw = (
            f"log_prob is nan at {found['x'][at].tolist()}, for distribution "
            f"{at[1:]}"
        )
    weights = np.exp(np.where(np.isnan(log_weight), -np.inf, log_weight))
    sampled = Sampled(found["x"], log_prob, weights, flaw)
    total, error = sampled.total()
    relative = (error / SIGMAS / np.maximum(total, 1e-30)).max()
    if not relative <= _TOO_LARGE:
        raise NotApplicable(
            f"importance sampling has a standard error of {relative:.2g}"
        )
    return sampled


def _proposal(draws: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """A Student-t about draws `[n, k]`: its draws and its log density."""
    draws = draws[np.isfinite(draws).all(axis=1)]
    size = draws.shape[1]
    if len(draws) < 100:
        raise NotApplicable("draws are at the boundary of the support")
    centre = np.median(draws, axis=0)
    width = np.median(np.abs(draws - centre), axis=0) + 1e-30
    core = draws[(np.abs(draws - centre) <= 8.0 * width).all(axis=1)]
    covariance = 1.2 * np.cov(core, rowvar=False).reshape(size, size)
    scale = np.sqrt(np.diagonal(covariance))
    with np.errstate(all="ignore"):
        correlation = covariance / np.outer(scale, scale)
    if not np.isfinite(correlation).all() or (
        np.linalg.eigvalsh(correlation)[0] < 1e-5
    ):
        raise NotApplicable("draws keep to fewer dimensions than they have")
    root = np.linalg.cholesky(correlation) * scale[:, None]
    normal = random.standard_normal((_DRAWS, size))
    chi2 = random.chisquare(_DF, (_DRAWS, 1)) / _DF
    t = normal / np.sqrt(chi2)
    log_g = (
        math.lgamma((_DF + size) / 2)
        - math.lgamma(_DF / 2)
        - size / 2 * math.log(_DF * math.pi)
        - np.log(np.diagonal(root)).sum()
        - (_DF + size) / 2 * np.log1p(np.square(t).sum(axis=1) / _DF)
    )
    return core.mean(axis=0) + t @ root.T, log_g


def _outcomes(case: Case) -> Sampled:
    """The sum over all drawn outcomes, for each distribution over its own.

    The mass of the others is about the share of outcomes that were drawn once
    (Good and Turing), with its standard error.
    """
    draws = case.first_draws
    batch = case.batch_shape
    flat = draws.reshape(len(draws), math.prod(batch), -1)
    distinct, index = np.unique(
        flat.reshape(-1, flat.shape[-1]), axis=0, return_inverse=True
    )
    if len(distinct) > _MOST_OUTCOMES:
        raise NotApplicable(f"more than {_MOST_OUTCOMES} outcomes are drawn")
    index = index.reshape(flat.shape[:2])
    counts = np.stack(
        [np.bincount(column, minlength=len(distinct)) for column in index.T],
        axis=-1,
    )
    once, twice = ((counts == k).sum(axis=0) for k in (1, 2))
    unseen = (once + SIGMAS * np.sqrt(once + 2.0 * twice + 1.0)) / len(draws)
    if (unseen > 0.05).any():
        raise NotApplicable("too many outcomes are not drawn")
    shape = (len(distinct), *batch)
    seen = (counts > 0).reshape(shape)
    # An outcome of another distribution of the batch may be impossible.
    first = distinct[index[0]].reshape(*batch, *case.event_shape)
    x = distinct.reshape(len(distinct), *[1] * len(batch), *case.event_shape)
    dims = (*seen.shape, *[1] * len(case.event_shape))
    x = np.where(seen.reshape(dims), x, first)
    log_prob = case.log_prob(x)
    flaw = ""
    if np.isnan(log_prob).any():
        at = first_place(np.isnan(log_prob))
        flaw = f"log_prob is nan at {x[at].tolist()}"
    log_prob = np.where(seen & ~np.isnan(log_prob), log_prob, -np.inf)
    return Sampled(
        x,
        log_prob,
        len(x) * np.exp(log_prob),
        flaw,
        counts.reshape(shape),
        unseen.reshape(batch),
    )
