"""From a distribution to a tensor."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.keras_internals import leave_arguments_as_they_are
from tfp_vae.latents import is_joint, latent_of, trace
from tfp_vae.layers.tensor_like import seeded, tensor_like
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = [
    "Conversion",
    "OnDistribution",
    "Sample",
    "canonical_conversion",
    "convertible",
    "mean_or_mode",
    "serialize_conversion",
    "stddev_or_estimate",
    "to_tensor",
]

#: A way to make a tensor of a distribution; see `to_tensor`.
Conversion = str | Callable[..., Tensor]

# As in tfp.layers.
_METHODS = ("sample", "mean", "mode", "stddev", "variance")

# Parameters that are a tensor of the shape of a draw, and a property in TFP.
_PROPERTIES = ("logits", "probs")

# Statistics that TFP may not have for a distribution.
_STATISTICS = ("mean", "mode", "quantile", "stddev", "variance")

# TFP says that the mean of these is NaN.
_WITHOUT_MEAN = (tfd.Cauchy, tfd.HalfCauchy)

# The number of draws that estimate a statistic that TFP does not have.
_ESTIMATE_SAMPLES = 100


def canonical_conversion(identifier: Any) -> Conversion | None:
    """A conversion by its name, where it has one.

    Args:
        identifier: the name of a method, the method itself as in
            `tfd.Distribution.mean`, a property as `tfd.Bernoulli.logits`,
            another function, the config of a registered one, or None.

    Returns:
        A name, a function or None.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(identifier, dict):
        identifier = deserialize_function(identifier, "convert_to_tensor_fn")
    if isinstance(identifier, property):
        identifier = getattr(identifier.fget, "__name__", identifier)
    for name in _METHODS:
        if identifier in (name, getattr(tfd.Distribution, name)):
            return name
    if identifier in _PROPERTIES:
        return str(identifier)
    if identifier is None or callable(identifier):
        return identifier
    raise ValueError(
        "What makes a tensor of a distribution is one of "
        f"{', '.join(map(repr, _METHODS))}, or a function of the distribution. "
        f"Received: {identifier!r}."
    )


def serialize_conversion(conversion: Conversion | None, owner: str) -> Any:
    """The config of a conversion.

    Args:
        conversion: what `canonical_conversion` returned.
        owner: whose argument it is, for the message.

    Returns:
        What `canonical_conversion` turns back.

    Raises:
        TypeError: for a function that is not registered.
    """
    if conversion is None or isinstance(conversion, str):
        return conversion
    return serialize_function(conversion, owner)


def to_tensor(
    distribution: tfd.Distribution,
    convert_to_tensor_fn: Any = None,
    seed: Any = None,
) -> Tensor:
    """A tensor that stands for a distribution.

    Args:
        distribution: any.
        convert_to_tensor_fn: `"sample"`, `"mean"`, `"mode"`, `"stddev"`,
            `"variance"`, the method itself as in `tfd.Distribution.mean`,
            `"logits"`, `"probs"` or the property as in `tfd.Bernoulli.logits`,
            or a function of the distribution, which is also given a `seed` of
            TFP's if it has an argument of that name. None takes the
            `convert_to_tensor_fn` of the layer that returned the distribution,
            or `"sample"` if it has none.
        seed: of a draw: a `keras.random.SeedGenerator`, an int, or None for
            fresh noise.

    Returns:
        A tensor, `batch_shape + event_shape` unless a function returns another
        shape.

    Raises:
        ValueError: if `convert_to_tensor_fn` is none of these.
    """
    conversion = canonical_conversion(convert_to_tensor_fn)
    if conversion is None:
        if hasattr(distribution, "__array__"):
            return ops.convert_to_tensor(distribution)
        conversion = "sample"
    if conversion in _PROPERTIES:
        return _parameter(distribution, conversion)
    if isinstance(conversion, str):
        conversion = getattr(type(distribution), conversion)
    if _takes_seed(conversion):
        return conversion(distribution, seed=tfp_seed(seed))
    return conversion(seeded(distribution, seed))


def _takes_seed(function: Any) -> bool:
    try:
        return "seed" in inspect.signature(function).parameters
    except ValueError:
        return False  # a function that is not written in Python


def _parameter(distribution: tfd.Distribution, name: str) -> Tensor:
    """A parameter of the distribution, or of the one it is made of."""
    while not hasattr(distribution, name):
        if not isinstance(distribution, tfd.Independent):
            raise ValueError(
                "What makes a tensor of a distribution is a parameter that it "
                f"has. Received: {name!r}, for {distribution.name}."
            )
        distribution = distribution.distribution
    value = getattr(distribution, name)
    # The other one of the two was given.
    return (
        getattr(distribution, f"{name}_parameter")() if value is None else value
    )


def mean_or_mode(distribution: tfd.Distribution) -> Tensor:
    """The mean of a distribution, or a substitute for it.

    The mean; else the mode; else, of numbers and of independent numbers, the
    median; else the mean of 100 draws, the same at each call. A flow or a
    relaxed categorical has only the last. Of a joint distribution, this of each
    part given those that it depends on, at theirs.

    Args:
        distribution: any.

    Returns:
        A tensor, `batch_shape + event_shape`; of a joint distribution a dict
        or a tuple of them.

    Raises:
        NotImplementedError: if it has none of them and cannot be sampled.
    """
    if is_joint(distribution):
        return _of_parts(distribution, mean_or_mode)
    for statistic in (_mean, _mode, _median):
        found = _unless_missing(statistic, distribution)
        if found is not None:
            return found
    return mean_over_first(_as_floats(_draws(distribution)))


def stddev_or_estimate(distribution: tfd.Distribution) -> Tensor:
    """The standard deviation, or that of 100 draws, the same at each call.

    Args:
        distribution: any.

    Returns:
        A tensor, `batch_shape + event_shape`.

    Raises:
        NotImplementedError: if it has none and cannot be sampled.
    """
    if is_joint(distribution):
        return _of_parts(distribution, stddev_or_estimate)
    found = _unless_missing(_stddev, distribution)
    if found is not None:
        return found
    draws = _as_floats(_draws(distribution))
    return ops.sqrt(mean_over_first((draws - mean_over_first(draws)) ** 2))


def _of_parts(
    joint: tfd.Distribution, statistic: Callable[[tfd.Distribution], Tensor]
) -> Any:
    """A statistic of each part, at the means of those it depends on."""
    found = {}

    def value_of(name: str, part: tfd.Distribution) -> Tensor:
        found[name] = statistic(part)
        return mean_or_mode(part)

    trace(joint, value_of)
    return latent_of(joint, found)


def _unless_missing(
    statistic: Callable[[tfd.Distribution], Tensor],
    distribution: tfd.Distribution,
) -> Tensor | None:
    """A statistic, or None if TFP does not have it for the distribution."""
    try:
        return statistic(distribution)
    except NotImplementedError:
        return None
    except AttributeError as error:
        # Some classes of TFP have no such method. Any other missing attribute
        # is a mistake inside a method, and is raised.
        if str(error.name).lstrip("_") in _STATISTICS:
            return None
        raise


def _mean(distribution: tfd.Distribution) -> Tensor:
    inner = distribution
    while isinstance(inner, tfd.Independent):
        inner = inner.distribution
    if isinstance(inner, _WITHOUT_MEAN):
        raise NotImplementedError("The mean is undefined.")
    return distribution.mean()


def _mode(distribution: tfd.Distribution) -> Tensor:
    return distribution.mode()


def _stddev(distribution: tfd.Distribution) -> Tensor:
    return distribution.stddev()


def _median(distribution: tfd.Distribution) -> Tensor:
    """The median of each number, where they are independent."""
    if isinstance(distribution, tfd.Independent):
        return _median(distribution.distribution)
    if len(distribution.event_shape):
        raise NotImplementedError("Vectors have no median.")
    return distribution.quantile(0.5)


def _draws(distribution: tfd.Distribution) -> Tensor:
    return distribution.sample(_ESTIMATE_SAMPLES, seed=tfp_seed(0))


def _as_floats(draws: Tensor) -> Tensor:
    dtype = keras.backend.standardize_dtype(draws.dtype)
    return draws if "float" in dtype else ops.cast(draws, "float32")


def convertible(
    distribution: tfd.Distribution, conversion: Conversion, seed: Any
) -> tfd.Distribution:
    """A copy of a distribution that is a tensor as well; see `tensor_like`.

    The tensor is made at its first use, and is the same each time: all layers
    that take it see the same draw.

    Args:
        distribution: any.
        conversion: how; see `to_tensor`.
        seed: of a draw; see `to_tensor`.

    Returns:
        A distribution of a subclass.
    """

    @functools.cache
    def value() -> Tensor:
        return to_tensor(distribution, conversion, seed)

    return tensor_like(distribution, value, seed)


class OnDistribution(keras.layers.Layer):
    """The base of layers that take a distribution.

    Args:
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        distribution: a `tfd.Distribution`, or in a symbolic call the output of
            a distribution layer.

    Returns:
        A tensor or a distribution, `batch_shape + event_shape`.

    Raises:
        TypeError: if given a tensor.
    """

    # What the layer does with a distribution, for the message.
    task = "takes"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A distribution stays a distribution, even if Keras could turn it into
        # a tensor.
        leave_arguments_as_they_are(self)

    def __call__(self, distribution: Any, **kwargs: Any) -> Any:
        if not isinstance(distribution, (tfd.Distribution, keras.KerasTensor)):
            raise TypeError(
                f"{type(self).__name__} {self.task} a distribution: give it "
                "the output of a distribution layer. Received: "
                f"{type(distribution).__name__}."
            )
        # Keras takes only tensors by position.
        return super().__call__(distribution=distribution, **kwargs)

    def compute_output_spec(
        self, distribution: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor(distribution.shape, dtype=distribution.dtype)


@keras.saving.register_keras_serializable("tfp_vae")
class Sample(OnDistribution):
    """Draws once from a distribution, inside any Keras model.

    The gradient passes through the draw where the distribution is
    reparameterised.

    Args:
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        distribution: a `tfd.Distribution`, or in a symbolic call the output of
            a distribution layer.

    Returns:
        A tensor, `batch_shape + event_shape`.

    Raises:
        TypeError: if given a tensor.

    Example:
    ```python
    posterior = MultivariateNormalDiag(2)(keras.layers.Dense(4)(inputs))
    z = Sample()(posterior)
    ```
    """

    task = "draws from"

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, distribution: tfd.Distribution) -> Tensor:
        return to_tensor(distribution, "sample", self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
