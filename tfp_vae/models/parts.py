"""Checks of the parts of a VAE, when it is made."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras

from tfp_vae.latents import is_joint
from tfp_vae.layers.distribution_layer import check_no_variables
from tfp_vae.layers.kl_regularizer import (
    KLDivergenceAddLoss,
    KLDivergenceRegularizer,
)
from tfp_vae.objectives import Objective
from tfp_vae.substrate import tfd

__all__ = [
    "check_layer",
    "check_objective",
    "check_posterior",
    "check_prior",
    "fits",
]


def check_layer(part: Any, role: str) -> None:
    """Refuses an encoder or decoder that is not a Keras layer.

    Args:
        part: the argument.
        role: "encoder" or "decoder".

    Raises:
        TypeError: if it is not a layer.
        ValueError: if a layer inside it adds a KL divergence to the loss.
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
                "The objective of a VAE has the KL divergence already: a layer "
                "that adds it to the loss would count it twice. Leave it "
                "out here, or train a tfp_vae.Model with "
                f"NegativeLogLikelihood. Received: {layer!r} in the {role}."
            )


def _all_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _all_layers(inner)


def check_objective(objective: Any) -> Objective:
    """Refuses what is not an `Objective`, such as the class `ELBO`.

    Args:
        objective: the argument.

    Returns:
        The argument.

    Raises:
        TypeError: if it is anything else.
    """
    if isinstance(objective, Objective):
        return objective
    raise TypeError(
        "The objective is a layer such as ELBO(), a subclass of "
        "tfp_vae.objectives.Objective: one of your own overrides combine(). "
        f"Received: {objective!r}."
    )


def check_posterior(
    posterior: tfd.Distribution, training: bool | None = None
) -> None:
    """Refuses a posterior for which there is a better one, and names it.

    That one before training, when the model is put together.

    Args:
        posterior: q(z|x), or a part of it.
        training: whether in training.

    Raises:
        ValueError: for the von Mises-Fisher distribution; in training, for any
            other that is not reparameterised.
    """
    inner = posterior
    while isinstance(inner, tfd.Independent):
        inner = inner.distribution
    way_out = ""
    if isinstance(inner, (tfd.Categorical, tfd.OneHotCategorical)):
        way_out = (
            " Of a few classes, take the exact expectation, "
            "ELBO(enumerate=True), or relax them, "
            "layers.RelaxedOneHotCategorical."
        )
    if (
        training
        and not isinstance(inner, tfd.VonMisesFisher)
        and (posterior.reparameterization_type == tfd.NOT_REPARAMETERIZED)
    ):
        raise ValueError(
            "The posterior must be reparameterised: no gradient of the "
            "likelihood would reach the encoder through its samples, and "
            f"nothing would complain. Received: {posterior.name}.{way_out}"
        )
    if isinstance(inner, tfd.VonMisesFisher):
        raise ValueError(
            "TFP does not reparameterise VonMisesFisher, so that no gradient "
            "would reach the encoder: take layers.PowerSpherical."
        )


def check_prior(prior: Any) -> None:
    """Refuses a prior that cannot be used, or whose variables would be lost.

    Args:
        prior: the argument.

    Raises:
        TypeError: if it is not a distribution, a layer or None.
        ValueError: if it is a distribution that holds variables.
    """
    if prior is None or isinstance(prior, keras.layers.Layer):
        return
    if not isinstance(prior, tfd.Distribution):
        raise TypeError(
            "The prior is a tfp.distributions object of the running backend, a "
            f"layer that returns one, or None. Received: {prior!r}."
        )
    if not is_joint(prior):
        check_no_variables(prior, "the prior")
        return
    # Not by asking TFP for variables, which would run the functions.
    parts = [prior.model] if callable(prior.model) else prior.model
    for part in parts.values() if isinstance(parts, dict) else parts:
        if isinstance(part, tfd.Distribution):
            check_no_variables(part, "the prior")
        elif _has_layers(part):
            raise ValueError(
                "Keras does not see the layers that functions of a joint "
                "distribution call: their weights would neither train nor be "
                "saved. Make the prior a layer that holds them and returns "
                "the distribution from its call, such as layers.Joint. "
                f"Received: {prior.name}."
            )


def _has_layers(function: Any) -> bool:
    """Whether a function is, or refers to, a layer with weights to be."""
    seen: list[Any] = [function, getattr(function, "__self__", None)]
    if inspect.isfunction(function):
        used = inspect.getclosurevars(function)
        seen += [*used.nonlocals.values(), *used.globals.values()]
    return any(isinstance(value, keras.layers.Layer) for value in seen)


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
