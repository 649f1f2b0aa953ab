"""The likelihood behind a Keras loss."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.distributions import Bernoulli, Huber, HyperbolicSecant
from tfp_vae.keras_internals import arguments_of_loss
from tfp_vae.substrate import Tensor, tfd

__all__ = ["LossLikelihood", "likelihood_from_loss"]


class LossLikelihood(NamedTuple):
    """The likelihood behind a loss.

    ```none
    -distribution(y_pred).log_prob(y) = sum over the event of loss(y, y_pred)
                                        + constant(y)
    ```

    Attributes:
        distribution: from `y_pred`, `[..., *event]`, to a `tfd.Distribution` of
            batch shape `[...]` over the event.
        constant: from y, `[..., *event]`, to the part that the loss leaves out,
            `[...]`, in nats per example. It never depends on `y_pred`.
    """

    distribution: Callable[[Tensor], tfd.Distribution]
    constant: Callable[[Tensor], Tensor]


class _Element(NamedTuple):
    """The likelihood of one element, and the nats that its loss leaves out."""

    distribution: Callable[[Tensor], tfd.Distribution]
    constant: Callable[[Tensor], Tensor]
    event_ndims: int = 0


def _constantly(value: float) -> Callable[[Tensor], Tensor]:
    return lambda y: ops.full_like(y, value)


def _clipped(probs: Tensor) -> Tensor:
    """Probabilities, clipped as in Keras' cross-entropies."""
    epsilon = keras.config.epsilon()
    return ops.clip(probs, epsilon, 1.0 - epsilon)


def _normalized(probs: Tensor) -> Tensor:
    return _clipped(probs / ops.sum(probs, axis=-1, keepdims=True))


def _squared(config: dict[str, Any]) -> _Element:
    # exp(-r**2), without a half: a Gaussian of variance 1/2.
    return _Element(
        lambda y_pred: tfd.Normal(y_pred, math.sqrt(0.5)),
        _constantly(0.5 * math.log(math.pi)),
    )


def _absolute(config: dict[str, Any]) -> _Element:
    return _Element(
        lambda y_pred: tfd.Laplace(y_pred, 1.0), _constantly(math.log(2.0))
    )


def _huber(config: dict[str, Any]) -> _Element:
    delta = float(config.get("delta", 1.0))
    if not 0.0 < delta < math.inf:
        raise ValueError(
            "The delta of a Huber loss is a positive number: at 0 the loss is "
            "0 everywhere, and for infinity Keras' formula is NaN. "
            f"Received: delta={delta}. Take another delta, or for a squared "
            'error "mse".'
        )
    centre = math.sqrt(2.0 * math.pi) * math.erf(delta / math.sqrt(2.0))
    tails = 2.0 / delta * math.exp(-0.5 * delta * delta)
    return _Element(
        lambda y_pred: Huber(y_pred, delta=ops.cast(delta, y_pred.dtype)),
        _constantly(math.log(centre + tails)),
    )


def _log_cosh(config: dict[str, Any]) -> _Element:
    return _Element(HyperbolicSecant, _constantly(math.log(math.pi)))


def _binary(config: dict[str, Any]) -> _Element:
    from_logits = config.get("from_logits", False)

    def distribution(y_pred: Tensor) -> tfd.Distribution:
        if from_logits:
            return Bernoulli(logits=y_pred, dtype=y_pred.dtype)
        return Bernoulli(probs=_clipped(y_pred), dtype=y_pred.dtype)

    return _Element(distribution, _constantly(0.0))


def _categorical(config: dict[str, Any]) -> _Element:
    from_logits = config.get("from_logits", False)

    def distribution(y_pred: Tensor) -> tfd.Distribution:
        if from_logits:
            return tfd.OneHotCategorical(logits=y_pred, dtype=y_pred.dtype)
        return tfd.OneHotCategorical(
            probs=_normalized(y_pred), dtype=y_pred.dtype
        )

    return _Element(distribution, _constantly(0.0), event_ndims=1)


def _sparse_categorical(config: dict[str, Any]) -> _Element:
    from_logits = config.get("from_logits", False)

    def distribution(y_pred: Tensor) -> tfd.Distribution:
        if from_logits:
            return tfd.Categorical(logits=y_pred)
        return tfd.Categorical(probs=_normalized(y_pred))

    return _Element(distribution, _constantly(0.0))


def _poisson(config: dict[str, Any]) -> _Element:
    # Keras takes the logarithm of y_pred + epsilon. With this sum as the rate,
    # the two differ by exactly a constant.
    epsilon = keras.config.epsilon()

    def constant(y: Tensor) -> Tensor:
        # At rate 1, -log p(y) is 1 + log y!, a function that `ops` lacks.
        one = tfd.Poisson(rate=ops.ones((), y.dtype))
        return (epsilon - 1.0) - one.log_prob(y)

    return _Element(lambda y_pred: tfd.Poisson(rate=y_pred + epsilon), constant)


_ELEMENTS: dict[str, Callable[[dict[str, Any]], _Element]] = {
    "MeanSquaredError": _squared,
    "MeanAbsoluteError": _absolute,
    "Huber": _huber,
    "LogCosh": _log_cosh,
    "BinaryCrossentropy": _binary,
    "CategoricalCrossentropy": _categorical,
    "SparseCategoricalCrossentropy": _sparse_categorical,
    "Poisson": _poisson,
}

_VARIES = (
    "the mass of exp(-loss) over all targets depends on y_pred, so that no "
    "constant makes it a density. "
)
_NO_SUM = "it is no sum over the elements of an example. "
_CLASSES = 'Take "categorical_crossentropy".'

_REASONS = {
    "KLDivergence": "its target is a distribution, and no outcome "
    "that could have a density. It differs from categorical_crossentropy "
    f"only by the entropy of the target. {_CLASSES}",
    "MeanAbsolutePercentageError": "it stays bounded as y grows, so "
    'that exp(-loss) has no finite integral. Take "mae" of log y.',
    "MeanSquaredLogarithmicError": _VARIES + 'Take "mse" of log(1 + y).',
    "CosineSimilarity": "it depends on the direction of y alone, so "
    "that exp(-loss) has no finite integral. Take tfd.VonMisesFisher, over "
    "unit vectors.",
    "Hinge": _VARIES + 'Take "binary_crossentropy".',
    "SquaredHinge": _VARIES + 'Take "binary_crossentropy".',
    "CategoricalHinge": _VARIES + _CLASSES,
    "BinaryFocalCrossentropy": _VARIES + 'Take "binary_crossentropy".',
    "CategoricalFocalCrossentropy": _VARIES + _CLASSES,
    "CTC": _NO_SUM + "It is a likelihood already, of sequences.",
    "Dice": _NO_SUM + 'Take "binary_crossentropy".',
    "Tversky": _NO_SUM + 'Take "binary_crossentropy".',
    "Circle": _NO_SUM + _CLASSES,
}


@functools.cache
def _name_of_function() -> dict[Any, str]:
    """From the function of a loss to the name of its class.

    "huber" is the function `keras.losses.huber`, and `keras.losses.Huber` is
    its class. If a version of Keras lacks one of them, the row is left out.
    """
    return {
        getattr(keras.losses, name)().fn: name
        for name in (*_ELEMENTS, *_REASONS)
        if hasattr(keras.losses, name)
    }


def likelihood_from_loss(
    loss: Any, event_ndims: int | None = None
) -> LossLikelihood:
    """The distribution whose negative log density is a Keras loss.

    ```none
    -log p(y) = sum over the event of loss(y, y_pred) + constant(y)

    loss, of an element          density at y         constant, of an element
    mean_squared_error           Normal, variance 1/2 log(pi) / 2
    mean_absolute_error          Laplace, scale 1     log 2
    huber                        Huber, scale 1       log Z(delta)
    log_cosh                     HyperbolicSecant     log pi
    binary_crossentropy          Bernoulli            0
    categorical_crossentropy     OneHotCategorical    0
    sparse_categorical_...       Categorical          0
    poisson                      Poisson              log y! + epsilon
    ```

    where y_pred is the location, the probability (or the logit, if the loss
    takes logits) or the rate, and `Z(delta) = sqrt(2 pi) erf(delta / sqrt 2) +
    (2 / delta) exp(-delta**2 / 2)`. Keras' mean over the last axis becomes a
    sum, and its `reduction` is ignored: the sum is D times the loss. Where
    Keras keeps a logarithm finite by `keras.config.epsilon()`, so does the
    density; with several classes it then differs by up to an epsilon per class.
    For y between 0 and 1 the cross-entropies are not densities, though the
    equation holds.

    Args:
        loss: a name that Keras knows, such as `"mse"`, with the defaults that
            it has in `compile`; a function of `keras.losses`; or an instance,
            such as `keras.losses.Huber(delta=2.0)`.
        event_ndims: how many of the last dimensions of y make up one example;
            by default all except the first. The classes of a one-hot y are one
            of them; the labels of the sparse loss have no such dimension.

    Returns:
        `LossLikelihood`: `distribution`, from y_pred to a `tfd.Distribution`,
        and `constant`, from y to nats per example.

    Raises:
        TypeError: if `loss` is not a loss.
        ValueError: if it is not a negative log density up to a constant, such
            as `kl_divergence`, or has targets other than the data (label
            smoothing, an ignored class), or if an argument is out of range.
            `distribution` raises it for a y_pred with too few dimensions, and
            `constant` for such a y.

    Example:
    ```python
    likelihood = likelihood_from_loss("mse")
    p = likelihood.distribution(y_pred)           # Normal, [B] over [D]
    -p.log_prob(y)                                # [B], nats, is the same as
    D * keras.losses.mean_squared_error(y, y_pred) + likelihood.constant(y)
    ```

    Reference:
        Keras, probabilistic and regression losses.
        https://keras.io/api/losses/
    """
    if event_ndims is not None and (
        isinstance(event_ndims, bool)
        or not isinstance(event_ndims, int)
        or event_ndims < 0
    ):
        raise ValueError(
            "event_ndims is how many of the last dimensions of y are those of "
            "an example: an int >= 0, or None for all except the first. "
            f"Received: event_ndims={event_ndims!r}."
        )
    element = _element(loss)

    def distribution(y_pred: Tensor) -> tfd.Distribution:
        elements = element.distribution(ops.convert_to_tensor(y_pred))
        batch = len(elements.batch_shape)
        rank = batch + element.event_ndims
        count = _event_ndims("y_pred", rank, event_ndims, element.event_ndims)
        return tfd.Independent(
            elements, reinterpreted_batch_ndims=count - element.event_ndims
        )

    def constant(y: Tensor) -> Tensor:
        y = ops.convert_to_tensor(y)
        if "float" not in keras.backend.standardize_dtype(y.dtype):
            y = ops.cast(y, keras.config.floatx())
        rank = len(y.shape)
        count = _event_ndims("y", rank, event_ndims, element.event_ndims)
        each = element.constant(y)
        # Not axis=(), which TensorFlow does not take.
        axes = tuple(range(-count, 0))
        return ops.sum(each, axis=axes) if axes else each

    return LossLikelihood(distribution, constant)


def _event_ndims(name: str, rank: int, asked: int | None, least: int) -> int:
    """How many dimensions an example has; refuses too few."""
    count = rank - 1 if asked is None else asked
    if not least <= count <= rank:
        raise ValueError(
            "The dimensions of an example come last, the classes of a one-hot "
            "target among them, and by default one of the batch comes first. "
            f"Received: {name} with {rank} dimensions (not counting the "
            f"classes of a sparse loss), event_ndims={asked}. Add the missing "
            "dimension, or change event_ndims."
        )
    return count


def _element(loss: Any) -> _Element:
    try:
        found = keras.losses.get(loss)
    except ValueError:
        found = None
    if found is None:
        raise TypeError(
            "A loss is a name that Keras knows, such as "
            '"mean_squared_error" or "huber", a function of keras.losses, or '
            f"an instance of keras.losses.Loss. Received: loss={loss!r}."
        )
    name = _name_of_function().get(found)
    if name is not None:
        found = getattr(keras.losses, name)()
    kind = type(found).__name__
    # A class of the user may compute any other function.
    if type(found) is not getattr(keras.losses, kind, None):
        kind = ""
    if kind not in _ELEMENTS:
        reason = _REASONS.get(
            kind,
            "none is known here. If it is a function of the residual, its "
            "density is tfp_vae.distributions.Gibbs(energy, loc=y_pred).",
        )
        raise ValueError(
            "A loss has a likelihood if it is minus a log density, up to what "
            f"does not depend on y_pred. Received: loss={loss!r}: {reason}"
        )
    config = arguments_of_loss(found)
    _check_targets(loss, config)
    return _ELEMENTS[kind](config)


def _check_targets(loss: Any, config: dict[str, Any]) -> None:
    """Refuses a loss that changes its targets."""
    if config.get("label_smoothing"):
        raise ValueError(
            "With label smoothing the likelihood has targets other than "
            f"the data. Received: loss={loss!r} with label_smoothing="
            f"{config['label_smoothing']}. Smooth the targets themselves and "
            "leave label_smoothing at 0."
        )
    if config.get("ignore_class") is not None:
        raise ValueError(
            "A likelihood counts all elements. Received: "
            f"loss={loss!r} with ignore_class={config['ignore_class']}. Leave "
            "it at None, and wrap the distribution in tfd.Masked."
        )
    if config.get("axis", -1) != -1:
        raise ValueError(
            "Keras' means, and classes, are taken over the last axis. "
            f"Received: loss={loss!r} with axis={config['axis']}. Leave axis "
            "at -1: a mean makes no difference to the sum over the event, and "
            "classes are moved by keras.ops.moveaxis."
        )
