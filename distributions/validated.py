"""Distributions that look at their data."""

from tfp_vae.substrate import tfd

__all__ = ["validated"]


def validated(distribution: tfd.Distribution) -> tfd.Distribution:
    """A copy with `validate_args` on, down to the innermost distribution.

    Args:
        distribution: any.

    Returns:
        The copy; the distribution itself if its class has no `validate_args`.
    """
    inner = {
        name: validated(value)
        for name, value in distribution.parameters.items()
        if isinstance(value, tfd.Distribution)
    }
    try:
        return distribution.copy(validate_args=True, **inner)
    except (TypeError, NotImplementedError):
        # A class of the user's that takes no validate_args.
        return distribution
