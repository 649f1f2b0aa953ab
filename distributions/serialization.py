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

__all__ = [
    "class_name",
    "deserialize",
    "deserialize_function",
    "find_class",
    "serialize",
    "serialize_function",
]

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

# TFP's classes that call their function arguments in the constructor, or as
# soon as a shape is read.
_CALLERS = tuple(
    getattr(tfd, name)
    for name in (
        "Autoregressive",
        "GaussianProcess",
        "GaussianProcessRegressionModel",
        "JointDistribution",
        "JointDistributionCoroutine",
        "JointDistributionCoroutineAutoBatched",
        "JointDistributionNamed",
        "JointDistributionNamedAutoBatched",
        "JointDistributionSequential",
        "JointDistributionSequentialAutoBatched",
        "LinearGaussianStateSpaceModel",
        "StudentTProcess",
        "StudentTProcessRegressionModel",
        "VariationalGaussianProcess",
    )
    # The substrates do not have the same classes.
    if hasattr(tfd, name)
)

# What Keras itself writes into the config of a registered layer, in addition to
# plain values: classes whose constructors do nothing else.
_KERAS_KINDS = (
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
)
_KERAS_MODULES = {
    "keras": keras,
    "keras.constraints": keras.constraints,
    "keras.dtype_policies": keras.dtype_policies,
    "keras.initializers": keras.initializers,
    "keras.regularizers": keras.regularizers,
}
_KERAS_ARRAYS = ("__numpy__", "__tensor__")
_KERAS_VALUES = ("__bytes__", "__ellipsis__", "__slice__", "__tuple__")


def class_name(cls: Any) -> str:
    """The name by which a class of distributions is saved.

    Args:
        cls: a class.

    Returns:
        What `find_class` turns back.

    Raises:
        TypeError: if it is not a class of distributions, or cannot be found
    again by its name.
    """
    is_class = isinstance(cls, type) and issubclass(cls, tfd.Distribution)
    name = _NAMES.get(cls) or (
        keras.saving.get_registered_name(cls) if is_class else ""
    )
    if not is_class or _find_class(name) is not cls:
        raise TypeError(
            "A distribution is saved by the name of its class, so this must be "
            "one of tfp.distributions or tfp_vae.distributions, or registered "
            "by keras.saving.register_keras_serializable (which asks for a "
            "get_config method). Put any other class into a layer that returns "
            f"it. Received: {getattr(cls, '__module__', '')}."
            f"{getattr(cls, '__name__', cls)}."
        )
    return name


def find_class(name: Any) -> type[tfd.Distribution]:
    """Finds the class that `class_name` named.

    Args:
        name: what `class_name` returned.

    Returns:
        A class of distributions.

    Raises:
        ValueError: if no class of that name is known.
    """
    cls = _find_class(name) if isinstance(name, str) else None
    if not isinstance(cls, type) or not issubclass(cls, tfd.Distribution):
        raise ValueError(
            "A saved distribution names a class that is neither in "
            "tfp.distributions, nor in tfp_vae.distributions, nor registered "
            "with Keras: register it before loading. Received: "
            f"{_shortened(name)}."
        )
    return cls


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
    name = class_name(cls)
    arguments = {
        argument: _encode(value, f"{name}.{argument}")
        for argument, value in distribution.parameters.items()
        if value is not None
    }
    if cls in _CALLERS and _names_a_function(arguments):
        raise TypeError(_caller_message(cls.__name__))
    return {"class_name": name, "config": arguments}


def deserialize(config: dict[str, Any]) -> tfd.Distribution:
    """Rebuilds what `serialize` wrote.

    Args:
        config: a dict with `class_name` and `config`.

    Returns:
        The distribution.

    Raises:
        ValueError: if no distribution of that name is known; if its constructor
            would call a function; or if `serialize` would not write an
            argument, such as a function that is not registered.
    """
    if not isinstance(config, dict) or not isinstance(
        config.get("config"), dict
    ):
        raise ValueError(
            "A saved distribution is a dict with `class_name`, a string, and "
            "`config`, the dict of its arguments: save it by `serialize`. "
            f"Received: {_shortened(config)}."
        )
    name, arguments = config.get("class_name"), config["config"]
    cls = find_class(name)
    if cls in _CALLERS and _names_a_function(arguments):
        raise ValueError(_caller_message(cls.__name__))
    return cls(**{k: _decode(v, f"{name}.{k}") for k, v in arguments.items()})


def serialize_function(function: Callable[..., Any], owner: str) -> Any:
    """The config of a function: the name under which it is registered.

    Args:
        function: one decorated by
            `keras.saving.register_keras_serializable`, or an object of a
            registered class.
        owner: whose argument it is, for the message.

    Returns:
        What `deserialize_function` turns back.

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


def deserialize_function(config: Any, owner: str) -> Callable[..., Any]:
    """Finds the function that `serialize_function` named.

    Not by `keras.saving.deserialize_keras_object` alone: it also finds most of
    what Keras exports, such as downloads of data sets, so that a file could
    make it call them.

    Args:
        config: what `serialize_function` returned.
        owner: whose argument it is, for the message.

    Returns:
        The registered function, or an object of the registered class.

    Raises:
        ValueError: if it is not registered, or if the config of an object
            names something else that is not.
    """
    function = None
    if _is_object(config) and config["class_name"] == "function":
        function = _registered(config.get("config"))
        if isinstance(function, type):
            function = None
    elif _is_object(config) and isinstance(_registered_class(config), type):
        _check_objects(config, owner)
        function = keras.saving.deserialize_keras_object(config)
    if not callable(function):
        raise ValueError(_unregistered_message(config, owner))
    return function


def _is_object(config: Any) -> bool:
    """Whether Keras would make an object of it, by the name of its class."""
    return isinstance(config, dict) and "class_name" in config


def _registered(name: Any) -> Any:
    if not isinstance(name, str):
        return None
    return keras.saving.get_registered_object(name)


def _registered_class(config: dict[str, Any]) -> Any:
    class_name = config["class_name"]
    # Keras looks up its own special names before registered ones.
    if not isinstance(class_name, str) or class_name.startswith("__"):
        return None
    return _registered(config.get("registered_name", class_name))


def _check_objects(config: Any, owner: str) -> None:
    """Refuses unregistered names, at any depth of an object's config."""
    if _is_object(config) and not _is_harmless(config, owner):
        raise ValueError(_unregistered_message(config, owner))
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            _check_objects(item, owner)


def _is_harmless(config: dict[str, Any], owner: str) -> bool:
    class_name = config["class_name"]
    if class_name == "function":
        return _registered(config.get("config")) is not None
    if class_name in _KERAS_ARRAYS and isinstance(config.get("config"), dict):
        _numeric_dtype(config["config"].get("dtype"), owner)
        return True
    if class_name in _KERAS_VALUES:
        return True
    return isinstance(_registered_class(config), type) or _is_of_keras(config)


def _is_of_keras(config: dict[str, Any]) -> bool:
    """Whether it is a class of Keras whose constructor does nothing else."""
    module, name = config.get("module"), config["class_name"]
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    # `getattr` does not find a name with dots, which Keras would follow.
    cls = getattr(_KERAS_MODULES.get(module), name, None)
    return isinstance(cls, type) and issubclass(cls, _KERAS_KINDS)


def _names_a_function(value: Any) -> bool:
    """Whether arguments name a function; inner distributions do not count.

    Args:
        value: the config of an argument, or a dict of all.
    """
    if isinstance(value, list):
        return any(map(_names_a_function, value))
    if isinstance(value, dict) and "distribution" not in value:
        return "function" in value or any(
            map(_names_a_function, value.values())
        )
    return False


def _caller_message(name: str) -> str:
    return (
        "A distribution that calls a function while it is made is neither "
        "saved nor loaded, since a file could make it call any function. "
        "Put it into a layer that returns it. Received: "
        f"{name} with a function among its arguments."
    )


def _unregistered_message(config: Any, owner: str) -> str:
    return (
        f"{owner} is loaded by the name of its function, which must have been "
        "registered: decorate it (or the class of the object, and whatever its "
        "config holds) by @keras.saving.register_keras_serializable() and "
        "import it before loading. What Keras itself exports is not called "
        f"out of a file. Received: {_shortened(config)}."
    )


def _shortened(value: Any) -> str:
    """Shortened, since a file may hold anything, of any length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        # Unchanged: the constructor chooses their dtype.
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
    # Every float of up to 64 bits prints as the shortest decimal that is read
    # back as the same float.
    return {"array": array.tolist(), "dtype": array.dtype.name}


def _decode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_decode(item, where) for item in value]
    keys = set(value) if isinstance(value, dict) else set()
    if keys == {"distribution"}:
        return deserialize(value["distribution"])
    if keys == {"dtype_name"}:
        return _dtype(value["dtype_name"], where).type
    if keys == {"function"}:
        return deserialize_function(value["function"], where)
    if keys == {"array", "dtype"}:
        return _decode_array(value["array"], value["dtype"], where)
    raise ValueError(
        "A saved argument of a distribution is a number, a string, a list of "
        "such, or a dict with one of the keys `distribution`, `dtype_name`, "
        "`function`, or with `array` and `dtype`: save it by `serialize`. "
        f"Received: {where}={_shortened(value)}."
    )


def _decode_array(items: Any, dtype: Any, where: str) -> np.ndarray:
    """No larger than what the file spells out, at a fixed size per item."""
    dtype = _numeric_dtype(dtype, where)
    try:
        return np.array(items, dtype=dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            "A saved array is a number or nested lists of numbers, of equal "
            f"lengths, that fit its dtype: save it by `serialize`. Received: "
            f"{where}={_shortened(items)} of dtype {dtype.name} ({error})."
        ) from error


def _numeric_dtype(name: Any, where: str) -> np.dtype:
    """A dtype of items of fixed size, unlike strings."""
    dtype = _dtype(name, where)
    if dtype.kind not in "biuf":
        raise ValueError(
            "A saved array is of a dtype of numbers (bool, int, uint or "
            f"float), as `serialize` writes it. Received: {where} of dtype "
            f"{_shortened(name)}."
        )
    return dtype


def _dtype(name: Any, where: str) -> np.dtype:
    """The dtype of a plain name, which excludes "S9", "9f4" and records."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.name != name:
        raise ValueError(
            "A saved dtype is the name of one of NumPy's or the backend's, "
            "such as 'float32': save it by `serialize`. Received: "
            f"{where} of dtype {_shortened(name)}."
        )
    return dtype
