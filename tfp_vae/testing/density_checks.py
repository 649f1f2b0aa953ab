"""Whether a density, its integrals and its statistics agree.

The oracle is an integral over `log_prob`: quadrature or a sum for scalars,
importance sampling for vectors. So a wrong method fails the check that is meant
for it.
"""

import numpy as np
from keras import ops

from tfp_vae.substrate import tfd
from tfp_vae.testing.case import Case
from tfp_vae.testing.implemented import is_derived
from tfp_vae.testing.mass import Array, UnknownMassError, place_of
from tfp_vae.testing.verdicts import NotApplicable, Violation, require

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

# The error of probabilities: float32 log densities are good to some 1e-6, and a
# cdf adds the rounding of its own argument.
_TOLERANCE = 2e-4
# The error of the cdf between two nodes, by linear interpolation, and of a
# tail.
_INTERPOLATION, _OF_TAIL = 3e-4, 0.1
_LEVELS = np.array([0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])


def _column(values: Array, like: Array) -> Array:
    """`[k]` as `[k, 1, ...]`, to broadcast with `[n, *batch]`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def check_normalization(case: Case) -> None:
    """The density integrates, or sums, to 1 over the support."""
    rule = "The density must integrate to 1 over its support"
    if not case.event_shape and isinstance(case._mass, UnknownMassError):
        if case._mass.is_fault:
            raise Violation(f"{rule}. Received: {case._mass}, for {case}.")
        raise NotApplicable(str(case._mass))
    integral = case.integral
    require(
        not integral.flaw,
        "log_prob must be a number everywhere in the support, or -inf",
        f"{integral.flaw}, for {case}",
    )
    total, error = integral.total()
    low, high = ("", "") if case.event_shape else case.support
    within = "" if case.event_shape else f" from {low} to {high}"
    require(
        np.abs(total - 1.0) <= error + case.tolerance(_TOLERANCE),
        rule,
        f"{total}{within} for {case} (a missing constant in "
        "log_prob, a Jacobian such as -log(scale), a mean over the event "
        "instead of a sum, or a support that is not the one of "
        "_default_event_space_bijector)",
    )


def _rounding(case: Case, x: Array) -> Array:
    """How much the log density may change by the rounding of its terms.

    By one rounding of the value, and, for a count, of the logarithm of its
    factorial.
    """
    if case.is_discrete:
        size = np.abs(x) * np.log1p(np.abs(x))
        events = tuple(range(-len(case.event_shape), 0))
        return np.asarray(2.0 * case.eps * size.sum(axis=events))
    moved = case.log_prob(x * (1.0 + case.eps)) - case.log_prob(x)
    return np.nan_to_num(np.abs(moved))


def check_prob(case: Case) -> None:
    """`prob` is the exponential of `log_prob`."""
    x = case.points
    prob, exact = case.ask("prob", x), np.exp(case.log_prob(x))
    close = case.tolerance(1e-4) + _rounding(case, x)
    good = np.isclose(prob, exact, rtol=0.0, atol=1e-30 + close * exact)
    worst = place_of(np.argmin(good), good.shape)
    require(
        good,
        "prob must be exp(log_prob)",
        f"{prob[worst]} against {exact[worst]} at {x[worst]} for {case}",
    )


def check_cdf(case: Case) -> None:
    """`cdf`, its logarithm and its complement are integrals of the density."""
    mass = case.mass
    every = max(1, len(mass.edges) // 200)
    x = mass.edges[::every]
    exact = (mass.below / mass.below[-1:])[::every]
    if not case.is_discrete:
        middle = mass.x[len(mass.x) // 2]
        is_finite = np.isfinite(case.rounded(x))
        x = np.where(is_finite, x, middle)
        exact = np.where(is_finite, exact, mass.cdf(middle[None]))
    # Methods that TFP derives from the cdf need not be compiled and called.
    related = ("log_cdf", "survival_function", "log_survival_function")
    found = case.ask_all(
        (
            "cdf",
            *(m for m in related if not is_derived(case.distribution, m)),
        ),
        x,
    )
    if "cdf" not in found:
        raise NotApplicable("no cdf")
    cdf = found.pop("cdf")
    if not case.is_discrete:
        # An edge is rounded before the cdf sees it.
        slack = np.exp(np.minimum(case.log_prob(x), 80.0)) * np.abs(
            x - case.rounded(x)
        )
        exact = np.where(slack < _TOLERANCE, exact, cdf)
    error = np.abs(cdf - exact)
    tolerance = case.tolerance(_TOLERANCE) + mass.noise
    worst = place_of(np.argmax(np.nan_to_num(error, nan=2)), x.shape)
    require(
        error <= tolerance,
        "cdf must be the mass at or below a value",
        f"{cdf[worst]} at {x[worst]}, where the density has {exact[worst]} "
        f"below, for {case}",
    )
    to_cdf = {
        "log_cdf": np.exp,
        "survival_function": lambda value: 1.0 - value,
        "log_survival_function": lambda value: 1.0 - np.exp(value),
    }
    for name, values in found.items():
        other = to_cdf[name](values)
        error = np.abs(other - cdf)
        worst = place_of(np.argmax(np.nan_to_num(error, nan=2)), x.shape)
        require(
            error <= tolerance,
            f"{name} must agree with cdf",
            f"one that belongs to a cdf of {other[worst]} at {x[worst]}, where "
            f"cdf is {cdf[worst]}, for {case}",
        )


def check_quantile(case: Case) -> None:
    """`quantile` is the inverse of the cdf."""
    mass = case.mass
    levels = np.broadcast_to(
        _column(_LEVELS, mass.x), (len(_LEVELS), *case.batch_shape)
    )
    x = case.ask("quantile", levels)
    noise = mass.noise + case.tolerance(0.0)
    if case.is_discrete:
        at, before = mass.cdf(x), mass.cdf(x - 1.0)
        before = np.where(x <= case.support[0], 0.0, before)
        slack = _TOLERANCE + noise
        good = (at >= levels - slack) & (before <= levels + slack)
    else:
        at = mass.cdf(x)
        tail = _OF_TAIL * np.minimum(levels, 1.0 - levels)
        close = np.minimum(_INTERPOLATION, tail)
        spacing = case.eps * np.abs(x) * np.exp(case.log_prob(x))
        good = np.abs(at - levels) <= close + noise + spacing
    worst = place_of(np.argmin(good), good.shape)
    require(
        good,
        "quantile must invert the cdf",
        f"{x[worst]} for {levels[worst]}, where the mass below is {at[worst]}, "
        f"for distribution {worst[1:]} of {case}",
    )


def _covariance(case: Case) -> tuple[Array, Array] | None:
    """The covariance of a vector, with its error."""
    if len(case.event_shape) != 1:
        return None
    x = case.integral.x
    apart = x - case.integral.mean_of(x)[0]
    return case.integral.mean_of(apart[..., :, None] * apart[..., None, :])


def check_moments(case: Case) -> None:
    """`mean`, `variance`, `stddev`, `covariance` are their integrals."""
    integral = case.integral
    x = integral.x
    mean, mean_error = integral.mean_of(x)
    variance, error = integral.mean_of(np.square(x - mean))
    deviation = np.sqrt(variance)
    with np.errstate(all="ignore"):
        half = 0.5 * error / deviation
    exact = {
        "mean": (mean, mean_error, deviation),
        "variance": (variance, error, variance),
        "stddev": (deviation, half, deviation),
    }
    covariance = _covariance(case)
    if covariance is not None:
        size = deviation[..., :, None] * deviation[..., None, :]
        exact["covariance"] = (*covariance, size)
    found = case.ask_all(exact)
    if not found:
        raise NotApplicable("no moments")
    known_any = False
    for name, value in found.items():
        expected, error, unit = exact[name]
        require(
            value.shape == expected.shape,
            f"{name} must have the batch and the event shape",
            f"shape {value.shape} instead of {expected.shape} for {case}",
        )
        known = np.isfinite(expected) & np.isfinite(unit)
        known_any |= bool(known.any())
        close = 5e-3 * unit + case.tolerance(0.0) * np.abs(expected)
        require(
            (np.abs(value - expected) <= close + error + 1e-30) | ~known,
            f"{name} must be the integral over the density",
            f"{value} against {expected} for {case}",
        )
    if not known_any:
        raise NotApplicable("tails too heavy for any moment")


def check_mode(case: Case) -> None:
    """The density is nowhere greater than at `mode`."""
    mode = case.ask("mode")
    require(
        mode.shape == (*case.batch_shape, *case.event_shape),
        "mode must have the batch and the event shape",
        f"shape {mode.shape} for {case}",
    )
    at = case.ask("log_prob", mode[None])[0]
    values = case.integral.log_prob
    top = values.max(axis=0)
    is_known = np.isfinite(mode).reshape(*case.batch_shape, -1).all(axis=-1)
    slack = 1e-3 + case.tolerance(0.0) * (1.0 + np.abs(top))
    needed = False
    if not case.event_shape:
        slack = slack + case.mass.noise + _rounding(case, mode[None])[0]
        needed = np.isfinite(top)
        if not case.is_discrete:
            # At an end the density may be infinite, and the mode undefined.
            seen = np.isfinite(values)
            ends = (
                seen.argmax(axis=0),
                len(seen) - 1 - seen[::-1].argmax(axis=0),
            )
            at_ends = np.take_along_axis(values, np.stack(ends), axis=0)
            needed &= (at_ends < top - slack).all(axis=0)
    require(
        (at >= top - slack) | ~(is_known | needed),
        "mode must be where the density is greatest",
        f"{mode}, where the log density is {at} and elsewhere {top}, for "
        f"{case}",
    )


def check_entropy(case: Case) -> None:
    """`entropy` is -E[log p]."""
    found = case.ask("entropy")
    integral = case.integral
    exact, error = integral.mean_of(-integral.log_prob)
    require(
        found.shape == case.batch_shape,
        "entropy must be one number a distribution",
        f"shape {found.shape} for batch shape {case.batch_shape}, {case}",
    )
    known = np.isfinite(exact)
    if not known.any():
        raise NotApplicable("tails too heavy for an entropy")
    close = case.tolerance(2e-3) * np.maximum(1.0, np.abs(exact))
    require(
        (np.abs(found - exact) <= close + error) | ~known,
        "entropy must be the mean of -log_prob, in nats",
        f"{found} against {exact} for {case}",
    )


def _kl(p: Case, q: Case) -> Array:
    try:
        found = p.call(
            lambda distribution, parameters: tfd.kl_divergence(
                distribution, q.rebuilt(**parameters)
            ),
            q.tensors(),
            key="kl",
        )
    except NotImplementedError as error:
        raise NotApplicable("no closed KL divergence") from error
    return ops.convert_to_numpy(found).astype(np.float64)


def check_kl(case: Case) -> None:
    """KL(p || q) is E_p[log p - log q], not negative, and zero on itself."""
    itself = _kl(case, case)
    require(
        np.abs(itself) <= case.tolerance(1e-4),
        "The KL divergence of a distribution from itself must be 0",
        f"{itself} for {case}",
    )
    batch = case.batch_shape
    if not batch or batch[0] < 2 or not case.parameters:
        return
    other = case.other(
        **{
            name: ops.convert_to_tensor(np.roll(value, 1, axis=0))
            for name, value in case.parameters.items()
            if value.shape[: len(batch)] == batch
        }
    )
    found = _kl(case, other)
    try:
        integral = case.integral
    except NotApplicable:
        if not case.event_shape:
            raise
        raise NotApplicable("held against itself only") from None
    exact, error = integral.mean_of(
        integral.log_prob - other.log_prob(integral.x)
    )
    known = np.isfinite(exact)
    if not known.any():
        raise NotApplicable("no finite integral to hold it against")
    require(
        (found >= -case.tolerance(1e-4)) | ~known,
        "A KL divergence must not be negative",
        f"{found} of {case} from {other}",
    )
    close = case.tolerance(3e-3) * np.maximum(1.0, np.abs(exact))
    require(
        (np.abs(found - exact) <= error + close) | ~known,
        "KL(p || q) must be the mean under p of log p - log q",
        f"{found} against {exact} for p = {case}, q = {other} (are the "
        "arguments swapped?)",
    )
