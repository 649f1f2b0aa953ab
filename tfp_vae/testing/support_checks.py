"""The density outside the support and far out."""

import numpy as np

from tfp_vae.testing.case import Case
from tfp_vae.testing.mass import first_place
from tfp_vae.testing.outcomes import strictly
from tfp_vae.testing.verdicts import NotApplicable, require

__all__ = ["check_outside", "check_tails"]

# Log densities between which -inf means neither an end of the support nor a
# value beyond float32.
_UNDERFLOW = (-1e5, -30.0)


def check_outside(case: Case) -> None:
    """Outside the support the density is 0, NaN, or an error.

    The error comes under `validate_args`, as in most of TFP.
    """
    low, high = case.support if not case.event_shape else (None, None)
    if low is None or not (np.isfinite(low) | np.isfinite(high)).any():
        raise NotApplicable("the support has no ends that are known")
    is_allowed = strictly(case)
    unit = np.ones(case.batch_shape)
    if not case.is_discrete:
        unit = np.ptp(case.mass.quantile(np.array([0.25, 0.75])), axis=0)
    for end, sign in ((low, -1.0), (high, 1.0)):
        if not np.isfinite(end).all():
            continue
        for steps in (1.0, 3.0):
            x = end + sign * steps * unit
            # An error is right, too.
            try:
                found = case.log_prob(x[None])[0]
            except Exception:
                continue
            if not (np.isfinite(found) | (found > 0)).any():
                continue
            require(
                not is_allowed(x),
                "Outside of the support log_prob must be -inf, or an error "
                "under validate_args=True",
                f"{found} at {x}, beyond the end {end}, for {case}",
            )


def check_tails(case: Case) -> None:
    """In the support log_prob is finite where float32 can represent it.

    It may be -inf if it would be below -1e38. If log_prob is only some -100 at
    a nearby place, the density underflowed, as in `log(exp(-r**2))`, or
    something overflowed, as in `log(cosh(r))`.
    """
    if case.floating in ("float16", "bfloat16"):
        raise NotApplicable(f"{case.floating} has no tails")
    mass = case.mass
    values = mass.log_prob
    low, high = case.support
    inside = np.isfinite(case.rounded(mass.x))
    inside &= (mass.x >= low) & (mass.x <= high)
    lost = np.isneginf(values) & inside
    for rows, name in (
        (slice(None), "above"),
        (slice(None, None, -1), "below"),
    ):
        seen, gone = values[rows], lost[rows]
        x = mass.x[rows]
        before, after = seen[:-1], gone[1:]
        bad = after & (before > _UNDERFLOW[0]) & (before < _UNDERFLOW[1])
        # An end inside the density is an end of the support.
        if not bad.any():
            continue
        at = first_place(bad)
        require(
            False,
            "In the tails log_prob must be finite wherever it can be",
            f"-inf {name} {x[at]:.4g}, where it is {before[at]:.4g}, for "
            f"distribution {at[1:]} of {case}. Compute in log space, as by "
            "logsumexp, softplus or log1p",
        )
