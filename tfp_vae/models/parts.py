"""What a VAE is made of: checked when it is put together, and called."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfp_vae.layers.distribution_layer import check_no_variables
from tfp_vae.layers.kl_regularizer import (
    KLDivergenceAddLoss,
    KLDivergenceRegularizer,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "check_layer",
    "check_objective",
    "check_posterior",
    "check_prior",
    "fits",
    "run_part",
    "run_prior",
]


def run_part(
    layer: keras.layers.Layer, inputs: Tensor, training: bool | None
) -> Any:
    """Calls a layer, and says whether in training if it asks.

    On JAX Keras passes `training` to the outermost `call` alone.

    Args:
        layer: encoder or decoder.
        inputs: what it is called with.
        training: whether in training.

    Returns:
        What the layer returns.
    """
    return layer(inputs, **_asked_for(layer, training=training))


def run_prior(
    layer: keras.layers.Layer,
    encode: Callable[..., tfd.Distribution],
    training: bool | None,
) -> Any:
    """Calls a learned prior with what it asks for in its signature.

    Args:
        layer: the prior.
        encode: from x, `[B, *event]`, to q(z|x); passed on as `encoder`.
        training: whether in training.

    Returns:
        What the layer returns.
    """
    return layer(None, **_asked_for(layer, encoder=encode, training=training))


def _asked_for(layer: keras.layers.Layer, **offers: Any) -> dict[str, Any]:
    names = inspect.signature(layer.call).parameters
    return {name: offers[name] for name in offers if name in names}


def check_layer(part: Any, role: str) -> None:
    """Refuses an encoder or decoder that is not a Keras layer.

    Args:
        part: the argument.
        role: "encoder" or "decoder".

    Raises:
        TypeError: if it is no layer.
        ValueError: if a layer within adds a KL divergence to the loss.
    """
    if not isinstance(part, keras.layers.Layer):
        raise TypeError(
            f"The {role} is a Keras layer or model, so that its weights train. "
            f"Received: {part!r}."
        )
    for layer in _all_layers(part):
        if isinstance(layer, KLDivergenceAddLoss) or isinstance(
            layer.activity_regularizer, KLDivergenceRegularizer
        ):
            raise ValueError(
                "The objective of a VAE has the KL divergence already: one "
                "that a layer adds to the loss would count it twice. Leave it "
                "out here, or train a tfp_vae.Model with "
                f"NegativeLogLikelihood. Received: {layer!r} in the {role}."
            )


def _all_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _all_layers(inner)


def check_objective(objective: Any) -> keras.layers.Layer:
    """Refuses an objective that is not a layer such as `ELBO()`.

    Args:
        objective: the argument.

    Returns:
        The argument.

    Raises:
        TypeError: if it is another thing, such as a class.
    """
    if isinstance(objective, keras.layers.Layer) and hasattr(
        objective, "num_samples"
    ):
        return objective
    raise TypeError(
        "The objective is a layer such as ELBO(), with the number of samples "
        f"it asks for in num_samples. Received: {objective!r}."
    )


def check_posterior(posterior: tfd.Distribution) -> None:
    """Refuses a posterior for which there is a better one, and names it.

    Before training, when the model is put together.

    Args:
        posterior: q(z|x).

    Raises:
        ValueError: for the von Mises-Fisher distribution.
    """
    while isinstance(posterior, tfd.Independent):
        posterior = posterior.distribution
    if isinstance(posterior, tfd.VonMisesFisher):
        raise ValueError(
            "TFP does not reparameterise VonMisesFisher, so that no gradient "
            "would reach the encoder: take layers.PowerSpherical."
        )


def check_prior(prior: Any) -> None:
    """Refuses a prior that cannot be used, or whose variables would be lost.

    Args:
        prior: the argument.

    Raises:
        TypeError: if it is no distribution, layer or None.
        ValueError: if it is a distribution that holds variables.
    """
    if prior is None or isinstance(prior, keras.layers.Layer):
        return
    if not isinstance(prior, tfd.Distribution):
        raise TypeError(
            "The prior is a tfp.distributions object of the running backend, a "
            f"layer that returns one, or None. Received: {prior!r}."
        )
    check_no_variables(prior, "the prior")


def fits(
    shape: tuple[int | None, ...], expected: tuple[int | None, ...]
) -> bool:
    """Whether a batch of one shape can go into a model for another.

    Args:
        shape: with the batch dimension.
        expected: with the batch dimension.

    Returns:
        A bool; an unknown size fits any.
    """
    return len(shape) == len(expected) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(shape[1:], expected[1:], strict=True)
    )
