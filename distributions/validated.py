"""Distributions that check their data."""

from typing import Any

from tfp_vae.substrate import tfd

__all__ = ["is_validated", "validated"]


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


def is_validated(value: Any) -> bool:
    """Whether something is a distribution that makes assertions.

    Args:
        value: any.

    Returns:
        Whether `validate_args` is on, for it or for a distribution inside it.
    """
    return isinstance(value, tfd.Distribution) and (
        value.validate_args or any(map(is_validated, value.parameters.values()))
    )
