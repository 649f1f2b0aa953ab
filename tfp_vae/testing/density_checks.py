"""What a density, its integrals and its statistics owe one another.

The oracle is quadrature over `log_prob` in float64, so that one wrong method is
named by the check that is meant for it.
"""

import math

import numpy as np
from keras import ops

from tfp_vae.testing.case import Case, NotApplicable, require
from tfp_vae.testing.mass import Array

__all__ = [
    "check_cdf",
    "check_entropy",
    "check_kl",
    "check_mode",
    "check_moments",
    "check_normalization",
    "check_prob",
    "check_quantile",
]

# Of probabilities: float32 log densities are good to some 1e-6, and a cdf adds
# the rounding of its own argument.
_TOLERANCE = 2e-4
# Of the cdf between two edges of panels, by linear interpolation.
_INTERPOLATION = 3e-3
# Where KL divergences of vectors are held against Monte Carlo.
_DRAWS = 2**13
_LEVELS = np.array([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])


def _column(values: Array, like: Array) -> Array:
    """`[k]` as `[k, 1, ...]`, to go with `[n, *batch]`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def check_normalization(case: Case) -> None:
    """The density integrates, or sums, to 1 over the support."""
    total = case.mass.total()
    low, high = case.support
    require(
        np.abs(total - 1.0) <= _TOLERANCE,
        "The density must integrate to 1 over its support",
        f"{total} from {low} to {high} for {case} (a missing constant in "
        "log_prob, a Jacobian such as -log(scale), or a support that is not "
        "the one of _default_event_space_bijector)",
    )


def check_prob(case: Case) -> None:
    """`prob` is the exponential of `log_prob`."""
    prob = case.ask("prob", case.points)
    log_prob = case.ask("log_prob", case.points)
    require(
        np.isclose(prob, np.exp(log_prob), rtol=1e-4, atol=1e-30),
        "prob must be exp(log_prob)",
        f"{prob} against {np.exp(log_prob)} at {case.points} for {case}",
    )


def check_cdf(case: Case) -> None:
    """`cdf`, its logarithm and its complement are integrals of the density."""
    mass = case.mass
    every = max(1, len(mass.edges) // 200)
    x = mass.edges[::every]
    exact = (mass.below / mass.below[-1:])[::every]
    cdf = case.ask("cdf", x)
    if not case.is_discrete:
        # An edge is rounded before the cdf sees it.
        slack = np.exp(np.minimum(case.ask("log_prob", x), 80.0)) * np.abs(
            x - x.astype(case.dtype)
        )
        exact = np.where(slack < _TOLERANCE, exact, cdf)
    error = np.abs(cdf - exact)
    worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=2)), x.shape)
    require(
        error <= _TOLERANCE,
        "cdf must be the mass at or below a value",
        f"{cdf[worst]} at {x[worst]}, where the density has {exact[worst]} "
        f"below, for {case}",
    )
    for name, expected in (
        ("log_cdf", np.exp),
        ("survival_function", lambda value: 1.0 - value),
        ("log_survival_function", lambda value: 1.0 - np.exp(value)),
    ):
        try:
            other = expected(case.ask(name, x))
        except NotApplicable:
            continue
        require(
            np.abs(other - cdf) <= _TOLERANCE,
            f"{name} must agree with cdf",
            f"{other} against {cdf} for {case}",
        )


def check_quantile(case: Case) -> None:
    """`quantile` is the inverse of the cdf."""
    mass = case.mass
    levels = np.broadcast_to(
        _column(_LEVELS, mass.x), (len(_LEVELS), *case.batch_shape)
    )
    x = case.ask("quantile", levels)
    if case.is_discrete:
        at, before = mass.cdf(x), mass.cdf(x - 1.0)
        before = np.where(x <= case.support[0], 0.0, before)
        good = (at >= levels - _TOLERANCE) & (before <= levels + _TOLERANCE)
    else:
        at = mass.cdf(x)
        good = np.abs(at - levels) <= _INTERPOLATION
    require(
        good,
        "quantile must invert the cdf",
        f"{x} for {levels}, where the mass below is {at}, for {case}",
    )


def check_moments(case: Case) -> None:
    """`mean`, `variance` and `stddev` are the integrals that define them."""
    mass = case.mass
    mean = mass.mean_of(mass.x)
    variance = mass.mean_of(np.square(mass.x - mean))
    found_any = False
    for name, exact, unit in (
        ("mean", mean, np.sqrt(variance)),
        ("variance", variance, variance),
        ("stddev", np.sqrt(variance), np.sqrt(variance)),
    ):
        try:
            found = case.ask(name)
        except NotApplicable:
            continue
        found_any = True
        require(
            found.shape == case.batch_shape,
            f"{name} must have the batch shape",
            f"shape {found.shape} for {case}",
        )
        known = np.isfinite(exact) & np.isfinite(unit)
        error = np.abs(found - exact) / np.maximum(unit, 1e-30)
        require(
            (error <= 5e-3) | ~known,
            f"{name} must be the integral over the density",
            f"{found} against {exact} for {case}",
        )
    if not found_any:
        raise NotApplicable("no moments")


def check_mode(case: Case) -> None:
    """Nowhere is the density greater than at `mode`."""
    mode = case.ask("mode")
    at = case.ask("log_prob", mode)
    top = case.mass.log_prob.max(axis=0)
    require(
        (at >= top - 1e-3) | ~np.isfinite(mode),
        "mode must be where the density is greatest",
        f"{mode}, where the log density is {at} and elsewhere {top}, for "
        f"{case}",
    )


def check_entropy(case: Case) -> None:
    """`entropy` is -E[log p]."""
    found = case.ask("entropy")
    exact = case.mass.mean_of(-case.mass.log_prob)
    require(
        (np.abs(found - exact) <= 2e-3 * np.maximum(1.0, np.abs(exact)))
        | ~np.isfinite(exact),
        "entropy must be the mean of -log_prob, in nats",
        f"{found} against {exact} for {case}",
    )


def check_kl(case: Case) -> None:
    """KL(p || q) is E_p[log p - log q], not negative, and zero on itself."""
    if not case.batch_shape or not case.parameters:
        raise NotApplicable("one distribution alone")
    other = Case(
        case.rebuilt(
            **{
                name: ops.convert_to_tensor(np.roll(value, 1, axis=0))
                for name, value in case.parameters.items()
                if value.shape[: len(case.batch_shape)] == case.batch_shape
            }
        ),
        None,
        case.seed,
    )
    itself = case.ask_kl(case)
    require(
        np.abs(itself) <= 1e-4,
        "The KL divergence of a distribution from itself must be 0",
        f"{itself} for {case}",
    )
    found = case.ask_kl(other)
    if case.event_shape:
        x = case.draws(_DRAWS)
        terms = case.ask("log_prob", x) - other.ask("log_prob", x)
        exact = terms.mean(axis=0)
        error = 7.0 * terms.std(axis=0) / math.sqrt(_DRAWS)
    else:
        mass = case.mass
        exact = mass.mean_of(mass.log_prob - other.ask("log_prob", mass.x))
        error = 0.0
    known = np.isfinite(exact)
    require(
        (found >= -1e-4) | ~known,
        "A KL divergence must not be negative",
        f"{found} of {case} from {other}",
    )
    require(
        (np.abs(found - exact) <= error + 3e-3 * np.maximum(1.0, np.abs(exact)))
        | ~known,
        "KL(p || q) must be the mean under p of log p - log q",
        f"{found} against {exact} for p = {case}, q = {other} (are the "
        "arguments swapped?)",
    )
