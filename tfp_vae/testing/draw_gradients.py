"""Gradients of draws in the parameters."""

import math

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, tfd, tfp, tfp_seed
from tfp_vae.testing.case import Case
from tfp_vae.testing.events import SIGMAS
from tfp_vae.testing.mass import Array
from tfp_vae.testing.verdicts import NotApplicable, Violation, require

__all__ = ["check_sample_gradients"]

# Each group gives one estimate, and their spread gives the error.
_GROUPS = 64
_DRAWS = 256
_STEP = 5e-3


def check_sample_gradients(case: Case) -> None:
    """Draws carry the gradient of their distribution.

    For a bounded function h the pathwise gradient of E[h(x)] is that of the
    score function, E[h(x) d log p(x) / d parameter], within seven standard
    errors of 64 groups of 256 draws. Where a parameter moves the ends of the
    support, this does not hold: then the reference is the difference of draws
    of the same seed at nearby parameters.
    """
    kind = case.distribution.reparameterization_type
    if kind != tfd.FULLY_REPARAMETERIZED:
        raise NotApplicable(f"draws are {kind}")
    if not case.parameters or case.is_discrete:
        raise NotApplicable("no floating parameters, or outcomes")
    if case.floating in ("float16", "bfloat16"):
        raise NotApplicable(f"{case.floating} is too coarse")
    parameters = {
        name: _in_groups(case, name, value)
        for name, value in case.parameters.items()
    }
    _, path, score = _gradients(case, parameters)
    for name, slopes in path.items():
        require(
            np.isfinite(slopes),
            "The gradient of draws must be finite",
            f"{np.isfinite(slopes).mean():.3f} of them in {name} finite, for "
            f"{case}",
        )
    open_end = _has_open_end(case)
    if not all(np.isfinite(slopes).all() for slopes in score.values()):
        raise NotApplicable("the slope of log_prob at a draw is not finite")
    for name, found in path.items():
        apart = found - score[name]
        error = SIGMAS * apart.std(axis=0) / math.sqrt(_GROUPS)
        size = np.abs(score[name].mean(axis=0)).max()
        good = np.abs(apart.mean(axis=0)) <= error + 1e-4 * (1.0 + size)
        exact = score[name].mean(axis=0)
        moves = open_end and _moves_an_end(case, name)
        if moves or (case.event_shape and not np.all(good)):
            exact = _difference(case, parameters, name)
            seen = _per_distribution(case, name, found).mean(axis=0)
            good = np.abs(seen - exact) <= 0.03 * (0.1 + np.abs(exact))
        if not np.all(good):
            raise Violation(
                "Draws of a FULLY_REPARAMETERIZED distribution must carry "
                "their gradient. Received: d E[h(x)] / d "
                f"{name} = {found.mean(axis=0)} along the draws, {exact} of "
                f"the density, for {case} (a stop_gradient, or noise through "
                "numpy?)."
            )


def _in_groups(case: Case, name: str, value: Array) -> Array:
    """`[groups, *batch, *event]`, ones where a parameter has no batch."""
    event = value.shape[value.ndim - case.event_ndims_of(name) :]
    batch = value.shape[: value.ndim - len(event)]
    missing = [1] * (len(case.batch_shape) - len(batch))
    return np.repeat(
        value.reshape(1, *missing, *batch, *event), _GROUPS, axis=0
    )


def _per_distribution(case: Case, name: str, slopes: Array) -> Array:
    ndims = case.event_ndims_of(name)
    return slopes.sum(axis=tuple(range(slopes.ndim - ndims, slopes.ndim)))


def _gradients(
    case: Case, parameters: dict[str, Array]
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """The mean of h a group; its gradient along draws and by the score."""
    names = list(parameters)
    # A place and a unit of the draws, the same for all parameters.
    draws = case.first_draws
    centre = np.median(draws, axis=0)
    unit = np.quantile(draws, 0.9, axis=0) - np.quantile(draws, 0.1, axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    axes = tuple(range(-len(case.event_shape), 0))

    def estimates(
        distribution: tfd.Distribution,
        parameters: list[Tensor],
        centre: Tensor,
        unit: Tensor,
        seed: Tensor,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        def rebuilt(parameters: tuple[Tensor, ...]) -> tfd.Distribution:
            return distribution.copy(
                **dict(zip(names, parameters, strict=True))
            )

        def bounded(x: Tensor) -> Tensor:
            r = (x - centre) / unit
            h = ops.tanh(2.0 * r + 0.5) + ops.exp(-ops.square(2.0 * r - 0.3))
            if not axes:
                return h
            # So that the numbers of an event have different weights.
            shape = case.event_shape
            factors = 1.0 + np.arange(math.prod(shape)) / math.prod(shape)
            factors = np.float64(factors).reshape(shape)
            return ops.sum(
                h * ops.convert_to_tensor(factors.astype(case.dtype)), axis=axes
            )

        def along(*parameters: Tensor) -> tuple[Tensor, Tensor]:
            x = rebuilt(parameters).sample(_DRAWS, seed=seed)
            return ops.mean(bounded(x), axis=0), x

        (mean, x), path = tfp.math.value_and_gradient(
            along, parameters, has_aux=True
        )
        x = ops.stop_gradient(x)
        h = bounded(x)
        # From the other groups too, so that it is nearly independent.
        h = ops.stop_gradient(h - ops.mean(h, axis=(0, 1), keepdims=True))

        def by_score(*parameters: Tensor) -> Tensor:
            return ops.mean(h * rebuilt(parameters).log_prob(x), axis=0)

        score = tfp.math.value_and_gradient(by_score, parameters)[1]

        def known(slopes: list[Tensor]) -> list[Tensor]:
            return [
                ops.zeros_like(a) if g is None else g
                for g, a in zip(slopes, parameters, strict=True)
            ]

        return mean, known(path), known(score)

    mean, path, score = case.call(
        estimates,
        [case.point(value, case.floating) for value in parameters.values()],
        case.point(centre),
        case.point(unit),
        tfp_seed(case.seed + 11),
        key="gradients of draws",
    )

    def arrays(slopes: list[Tensor]) -> dict[str, Array]:
        return {
            name: ops.convert_to_numpy(slope).astype(np.float64)
            for name, slope in zip(names, slopes, strict=True)
        }

    return (
        ops.convert_to_numpy(mean).astype(np.float64),
        arrays(path),
        arrays(score),
    )


def _difference(case: Case, parameters: dict[str, Array], name: str) -> Array:
    """The difference of means of draws with the same seed, per distribution."""
    value = parameters[name]
    step = _STEP * np.maximum(np.abs(value), 0.1)
    above, below = (
        _gradients(case, parameters | {name: value + sign * step})[0]
        for sign in (1.0, -1.0)
    )
    step = _per_distribution(case, name, step) / max(
        1, math.prod(value.shape[value.ndim - case.event_ndims_of(name) :])
    )
    return ((above - below) / (2.0 * step)).mean(axis=0)


def _moves_an_end(case: Case, name: str) -> bool:
    """Whether a parameter moves an end of the support."""
    value = case.parameters[name]
    moved = np.float64(value) + 0.1 * np.maximum(np.abs(value), 0.1)
    other = case.other(**{name: case.point(moved, case.floating)})
    return not np.allclose(other.support, case.support)


def _has_open_end(case: Case) -> bool:
    """Whether the density does not vanish at an end of its support."""
    if case.event_shape:
        return False
    low, high = case.support
    if not (np.isfinite(low) | np.isfinite(high)).any():
        return False
    mass = case.mass
    inner = mass.quantile(np.array([1e-3, 1.0 - 1e-3]))
    at = np.exp(case.log_prob(inner))
    spread = np.ptp(mass.quantile(np.array([0.1, 0.9])), axis=0)
    finite = np.stack([np.isfinite(low), np.isfinite(high)])
    return bool(np.any((at * spread > 0.02) & finite))
