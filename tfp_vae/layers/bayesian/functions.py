"""Divergences, and the saving of the functions that users give."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions import kl_divergence
from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = ["decode", "encode", "exact_kl", "kl_of", "total"]


@keras.saving.register_keras_serializable("tfp_vae")
def exact_kl(
    posterior: tfd.Distribution, prior: tfd.Distribution, tensor: Tensor
) -> Tensor:
    """The exact KL divergence, whatever the draw.

    Args:
        posterior: q.
        prior: p.
        tensor: a draw from q, not used.

    Returns:
        KL(q || p), in nats.

    Raises:
        NotImplementedError: if no closed form is known.
    """
    del tensor
    return kl_divergence(posterior, prior)


def kl_of(posterior: tfd.Distribution, prior: tfd.Distribution) -> Any:
    """The exact KL divergence, or None if no closed form is known.

    Args:
        posterior: q.
        prior: p.

    Returns:
        A scalar, in nats, or None.
    """
    try:
        return total(kl_divergence(posterior, prior))
    except NotImplementedError:
        return None


def total(divergence: Tensor) -> Tensor:
    """The sum of what a divergence function returns: one number for a layer.

    Args:
        divergence: of any shape.

    Returns:
        A scalar.
    """
    return ops.sum(ops.convert_to_tensor(divergence))


def encode(function: Callable[..., Any] | None, owner: str) -> Any:
    """The config of a function, or None for None.

    Args:
        function: registered, or None.
        owner: whose argument it is, for the message.

    Returns:
        What `decode` turns back.

    Raises:
        TypeError: for a function that is not registered.
    """
    return None if function is None else serialize_function(function, owner)


def decode(config: dict[str, Any], names: Any, owner: str) -> dict[str, Any]:
    """A config with functions in place of their configs.

    Args:
        config: of a layer.
        names: the arguments that are functions.
        owner: the layer, for the message.

    Returns:
        Another dict.

    Raises:
        ValueError: if a function is not registered.
    """
    return config | {
        name: deserialize_function(config[name], owner)
        for name in names
        if isinstance(config.get(name), dict)
    }
