"""A warning of activations that spoil the logits of a likelihood."""

import weakref
from typing import Any

import keras

from tfp_vae.keras_internals import calls_within
from tfp_vae.layers.heads.composite import Composite
from tfp_vae.layers.heads.mixture import MixtureSameFamily
from tfp_vae.warn import warn_user

__all__ = ["warn_of_activation"]

# Functions of Keras, and its classes of layers and operations, in lower case.
_SQUASHING = ("sigmoid", "softmax", "hard_sigmoid", "hardsigmoid")

# Layers and operations that change no value.
_RESHAPING = (
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
)

# A model is built more than once, alone and inside others: one warning is
# enough.
_warned: weakref.WeakSet[keras.layers.Layer] = weakref.WeakSet()


def warn_of_activation(model: keras.layers.Layer) -> None:
    """Warns, once, of a sigmoid or softmax before a layer that takes logits.

    It sees the layer that feeds a distribution layer in `keras.Sequential` and
    in functional models, and in models inside them. It does not see into the
    `call` of a subclass.

    Args:
        model: any layer.
    """
    _follow(model, None)


def _follow(layer: Any, squashed: Any) -> Any:
    """Goes through a layer, and warns.

    Args:
        layer: a layer, or an operation of `keras.ops`.
        squashed: the layer that squashed its input, or None.

    Returns:
        The layer that squashed its output, or None.
    """
    if isinstance(layer, keras.Sequential):
        for inner in layer.layers:
            squashed = _follow(inner, squashed)
        return squashed
    if calls := calls_within(layer):
        return _follow_calls(layer, calls, squashed)
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            _follow(inner, None)
        return None
    if isinstance(layer, _RESHAPING):
        return squashed
    head = _takes_logits(layer)
    if head is not None and squashed is not None and layer not in _warned:
        _warned.add(layer)
        _warn(head, squashed)
    return layer if _activation(layer) in _SQUASHING else None


def _follow_calls(model: Any, calls: list[Any], squashed: Any) -> Any:
    """Goes through a functional model; see `_follow`."""
    by_tensor = {}
    if len(model.inputs) == 1:
        by_tensor[id(model.inputs[0])] = squashed
    for called, inputs, outputs in calls:
        if not inputs:
            continue  # the input of a model
        found = _follow(called, by_tensor.get(id(inputs[0])))
        by_tensor.update((id(output), found) for output in outputs)
    if len(model.outputs) > 1:
        return None
    return by_tensor.get(id(model.outputs[0]))


def _takes_logits(layer: Any) -> Any:
    """The layer, or the one inside it, whose parameters are only logits."""
    inner: list[Any] = []
    if isinstance(layer, Composite):
        inner = layer.blocks
    elif isinstance(layer, MixtureSameFamily):
        inner = [layer.component_layer]
    elif getattr(layer, "parameters", None) == ("logits",):
        return layer
    return next(filter(None, map(_takes_logits, inner)), None)


def _activation(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", type(layer).__name__).lower()


def _warn(head: keras.layers.Layer, squashed: Any) -> None:
    name = type(head).__name__
    warn_user(
        f"{name} takes logits, any real numbers, but the layer before it, "
        f"{squashed.name!r}, ends in a {_activation(squashed)}. Between logits "
        "of 0 and 1 no outcome can be more than e = 2.7 times as likely as "
        "another, and the model cannot learn the data. Leave the activation "
        f"out: {name} makes probabilities of the logits itself."
    )
