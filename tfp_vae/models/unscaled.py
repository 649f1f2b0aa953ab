"""A warning of a divergence of weights at the wrong scale."""

import math
import weakref
from typing import Any

import keras

from tfp_vae.keras_internals import all_layers
from tfp_vae.warn import warn_user

__all__ = ["reduces_by_sum", "warn_of_unscaled_divergence"]

# One warning of a layer is enough.
_warned: weakref.WeakSet[keras.layers.Layer] = weakref.WeakSet()


def reduces_by_sum(losses: Any) -> bool:
    """Whether no loss of a model is a mean over examples.

    Args:
        losses: as `compile` takes them.

    Returns:
        A bool.
    """
    reductions = [
        getattr(loss, "reduction", "sum_over_batch_size")
        for loss in keras.tree.flatten(losses)
        if loss is not None
    ]
    return not any("mean" in str(r) or "over" in str(r) for r in reductions)


def warn_of_unscaled_divergence(model: keras.Model) -> None:
    """Warns, once, of layers that add a KL divergence of weights as it is.

    Beside a loss that is a mean over examples it belongs there divided by their
    number. Otherwise it outweighs the data, and the posterior stays a prior.

    Args:
        model: a built model.
    """
    for layer in all_layers(model):
        if not hasattr(layer, "divergences") or layer in _warned:
            continue
        if not layer.built:
            continue
        for value, kl in layer.divergences().values():
            if kl is None:
                continue
            exact = float(kl)
            if exact > 0.0 and math.isclose(float(value), exact, rel_tol=1e-3):
                _warned.add(layer)
                _warn(layer, exact)
                break


def _warn(layer: keras.layers.Layer, kl: float) -> None:
    way = "kernel_divergence_fn=losses.scaled_kl(num_examples)"
    if hasattr(layer, "kl_weight"):
        way = "kl_weight=1 / num_examples"
    warn_user(
        "Beside a loss that is a mean over examples, the KL divergence of "
        "uncertain weights is divided by the number of examples that the model "
        f"is trained on. Received: {layer.name!r}, which adds all {kl:.0f} "
        f"nats of it to the loss of every batch. Give it {way}."
    )
