"""Distributions and functions to plain configs, with no code in them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfp_vae.distributions.asymmetric_laplace import AsymmetricLaplace
from tfp_vae.distributions.barron import Barron
from tfp_vae.distributions.bernoulli import Bernoulli
from tfp_vae.distributions.composite import Composite
from tfp_vae.distributions.discretized import DiscretizedLogistic
from tfp_vae.distributions.gibbs import Gibbs
from tfp_vae.distributions.huber import Huber
from tfp_vae.distributions.hyperbolic_secant import HyperbolicSecant
from tfp_vae.substrate import tfd

__all__ = ["deserialize", "serialize", "serialize_function"]

# With a prefix, since TFP has a Bernoulli too.
_OURS = {
    f"tfp_vae>{cls.__name__}": cls
    for cls in (
        AsymmetricLaplace,
        Barron,
        Bernoulli,
        Composite,
        DiscretizedLogistic,
        Gibbs,
        Huber,
        HyperbolicSecant,
    )
}
_NAMES = {cls: name for name, cls in _OURS.items()}


def _find_class(name: str) -> type | None:
    if name in _OURS:
        return _OURS[name]
    return getattr(tfd, name, None) or keras.saving.get_registered_object(name)


def serialize(distribution: tfd.Distribution) -> dict[str, Any]:
    """The config of a distribution: its class name and its arguments.

    Args:
        distribution: one of TFP's distributions, one of ours, or one of a class
            registered by `keras.saving.register_keras_serializable`, whose
            arguments are numbers, arrays, strings, distributions or registered
            functions.

    Returns:
        A dict fit for JSON. Numbers are kept to the last bit of their dtype.

    Raises:
        TypeError: if the class cannot be found again by its name, or an
            argument is of another kind.
    """
    cls = type(distribution)
    name = _NAMES.get(cls) or keras.saving.get_registered_name(cls)
    if _find_class(name) is not cls:
        raise TypeError(
            "A distribution is saved by the name of its class, so this must be "
            "one of tfp.distributions or tfp_vae.distributions, or registered "
            "by keras.saving.register_keras_serializable (which asks for a "
            "get_config method). Put another kind into a layer that returns "
            f"it. Received: {cls.__module__}.{cls.__name__}."
        )
    arguments = {
        argument: _encode(value, f"{name}.{argument}")
        for argument, value in distribution.parameters.items()
        if value is not None
    }
    return {"class_name": name, "config": arguments}


def deserialize(config: dict[str, Any]) -> tfd.Distribution:
    """Rebuilds what `serialize` wrote.

    Args:
        config: a dict with `class_name` and `config`.

    Returns:
        The distribution.

    Raises:
        ValueError: if no distribution of that name is known.
    """
    cls = _find_class(config["class_name"])
    if cls is None or not issubclass(cls, tfd.Distribution):
        raise ValueError(
            "A saved distribution names a class that is neither in "
            "tfp.distributions, nor in tfp_vae.distributions, nor registered "
            "with Keras: register it before loading. Received: "
            f"{config['class_name']!r}."
        )
    return cls(**{k: _decode(v) for k, v in config["config"].items()})


def serialize_function(function: Callable[..., Any], owner: str) -> Any:
    """The config of a function: the name it is registered by.

    Args:
        function: one decorated by
            `keras.saving.register_keras_serializable`, or an object of a
            registered class.
        owner: whose argument it is, for the message.

    Returns:
        What `keras.saving.deserialize_keras_object` turns back.

    Raises:
        TypeError: if it is not registered, such as a lambda, which would have
            to be saved as code.
    """
    registered = function if hasattr(function, "__name__") else type(function)
    name = keras.saving.get_registered_name(registered)
    if keras.saving.get_registered_object(name) is not registered:
        raise TypeError(
            f"{owner} is saved by the name of its function, so that loading "
            "runs no code from the file. Give it a named function (or an "
            "object of a class) decorated by "
            "@keras.saving.register_keras_serializable(). Received: "
            f"{function!r}."
        )
    return keras.saving.serialize_keras_object(function)


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        # As they were given: the constructor chooses their dtype.
        return [_encode(item, where) for item in value]
    if isinstance(value, tfd.Distribution):
        return {"distribution": serialize(value)}
    if isinstance(value, (type, np.dtype)) or hasattr(value, "as_numpy_dtype"):
        return {"dtype_name": keras.backend.standardize_dtype(value)}
    if callable(value):
        return {"function": serialize_function(value, where)}
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
        is_numeric = array.dtype.kind in "biuf"
    except Exception:
        is_numeric = False
    if not is_numeric:
        raise TypeError(
            "Only numbers, arrays, strings and distributions are saved as "
            "arguments of a distribution. Put the distribution into a layer "
            f"that returns it. Received: {where}={value!r}."
        )
    # Every float of up to 64 bits prints as the shortest decimal that reads
    # back as itself.
    return {"array": array.tolist(), "dtype": array.dtype.name}


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict) and "distribution" in value:
        return deserialize(value["distribution"])
    if isinstance(value, dict) and "dtype_name" in value:
        return np.dtype(value["dtype_name"]).type
    if isinstance(value, dict) and "function" in value:
        return keras.saving.deserialize_keras_object(value["function"])
    if isinstance(value, dict) and "array" in value:
        return np.array(value["array"], dtype=value["dtype"])
    return value
