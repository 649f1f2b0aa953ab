"""A look at the data before they reach a compiled step.

A compiled step sees shapes and dtypes, not values. So the values are looked at
here, once for each call of `fit`, `evaluate` or `predict`: all of them when the
data are arrays, the first batch when they come from a pipeline.
"""

import itertools
import warnings
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from tfp_vae.substrate import Tensor, tfd

__all__ = ["check_finite", "check_support", "extreme_rows", "peek"]

# Rows that are tried on the likelihood, beside the two with the extreme values.
_FIRST_ROWS = 2


def peek(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The data to look at, and the source to train from afterwards.

    Args:
        x: arrays or a pipeline, as `keras.Model.fit` takes them.
        y: targets, when x are arrays.

    Returns:
        `(x_seen, y_seen, x)`: all rows of an array or the first batch of a
        pipeline, and the source, which is another object only for a generator,
        of which an item had to be taken.
    """
    if isinstance(x, GeneratorType):
        first = next(x)
        x_seen, y_seen, _ = keras.utils.unpack_x_y_sample_weight(first)
        return x_seen, y_seen, _generator(itertools.chain([first], x))
    if hasattr(x, "shape") or x is None:
        return x, y, x
    first = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
    x_seen, y_seen, _ = keras.utils.unpack_x_y_sample_weight(first)
    return x_seen, y_seen, x


def _generator(items: Iterator[Any]) -> Iterator[Any]:
    # Keras knows a generator by its type.
    yield from items


def check_finite(name: str, values: Any) -> np.ndarray:
    """Refuses NaN and infinite data.

    Args:
        name: "x" or "y", for the message.
        values: an array.

    Returns:
        The values as a numpy array.

    Raises:
        ValueError: if there are any, with their number and the first place.
    """
    array = np.asarray(keras.ops.convert_to_numpy(values))
    # The extremes carry any NaN or infinity, and cost no array of booleans.
    if array.size and not (
        np.isfinite(array.min()) and np.isfinite(array.max())
    ):
        wrong = ~np.isfinite(array)
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"All data must be finite. Received: {int(wrong.sum())} NaN or "
            f"infinite of {array.size} values in {name}, the first "
            f"({array[place]}) at index {place}. Remove or impute them."
        )
    return array


def extreme_rows(array: np.ndarray) -> np.ndarray:
    """A few indices: the first rows, and those of the smallest and largest.

    Args:
        array: `[N, *event]`.

    Returns:
        `[k]` distinct indices in order, 1 <= k <= 4.
    """
    size = max(array[0].size, 1)
    first = range(min(len(array), _FIRST_ROWS))
    return np.unique([*first, array.argmin() // size, array.argmax() // size])


def check_support(
    likelihood: tfd.Distribution, target: Tensor, warn: bool
) -> bool:
    """Refuses data that the likelihood gives no density.

    The likelihood is asked twice: by its own `validate_args` assertions, and
    for a finite log density. Values between two outcomes of a discrete
    likelihood, such as grey levels for a Bernoulli, are let through with a
    warning, since people train so on purpose.

    Args:
        likelihood: p(x|z) on concrete values.
        target: data, `[B, *event]`.
        warn: whether to warn of values between outcomes.

    Returns:
        Whether there were such values.

    Raises:
        ValueError: if data are outside the support.
    """
    strict = _validated(likelihood)
    fault = _fault(strict, target)
    if fault is None:
        return False
    between = all(
        _fault(strict, whole(target)) is None
        for whole in (keras.ops.floor, keras.ops.ceil)
    )
    values = keras.ops.convert_to_numpy(target)
    if not between:
        raise ValueError(
            "All data must lie in the support of the likelihood. Received: "
            f"values from {values.min()} to {values.max()} for "
            f"{likelihood.name}, which answers: {fault}. Rescale the data, or "
            "choose a likelihood that is made for them."
        )
    if warn:
        warnings.warn(
            f"{likelihood.name} has whole numbers as outcomes, but the data "
            f"have values between them (from {values.min()} to {values.max()})"
            ": log_prob is then a cross-entropy and not the logarithm of a "
            "probability, and the ELBO no bound on anything. Binarise the "
            "data, (x > 0.5).astype(x.dtype), or take a likelihood for grey "
            "levels, such as IndependentNormal or IndependentHuber.",
            stacklevel=4,
        )
    return True


def _validated(distribution: tfd.Distribution) -> tfd.Distribution:
    """A copy with `validate_args` on, down to the innermost distribution."""
    inner = {
        name: _validated(value)
        for name, value in distribution.parameters.items()
        if isinstance(value, tfd.Distribution)
    }
    try:
        return distribution.copy(validate_args=True, **inner)
    except (TypeError, NotImplementedError):
        # A class of the user's that takes no validate_args.
        return distribution


def _fault(likelihood: tfd.Distribution, target: Tensor) -> str | None:
    """What is wrong with the data, in the likelihood's own words, or None."""
    try:
        log_prob = likelihood.log_prob(target)
    # Each backend has its own kind of error for an assertion that fails.
    except Exception as error:
        message = getattr(error, "message", None) or str(error)
        return " ".join(message.split())[:300]
    log_prob = keras.ops.convert_to_numpy(log_prob)
    if np.isfinite(log_prob).all():
        return None
    return f"a log density of {log_prob[~np.isfinite(log_prob)].flat[0]}"
