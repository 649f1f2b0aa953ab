"""Functions of a model, each compiled once and kept as long as the model lives.

They are kept outside the model, so that it is saved, pickled and copied without
them.
"""

import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.keras_internals import all_layers
from tfp_vae.substrate import jit, jit_with_variables, tfd

__all__ = ["compiled", "forget"]

# Functions kept for one model: a loop over numbers of samples must not fill the
# memory.
_LIMIT = 8

# None is not compared: a value that replaces it is.
_VALUES = (bool, int, float, complex, str, bytes, np.generic)
_OBJECTS = (
    keras.layers.Layer,
    tfd.Distribution,
    np.ndarray,
    types.FunctionType,
)

# What Keras sets while it trains, evaluates and predicts.
_OF_LOOPS = {
    "train_function",
    "test_function",
    "predict_function",
    "stop_training",
    "stop_evaluating",
    "stop_predicting",
    # What `add_loss` collects in each call.
    "_losses",
    "_loss_ids",
}


class _Kept:
    """The functions of one model, and its parts when they were compiled."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts
        self.functions: dict[tuple[Any, ...], Callable[..., Any]] = {}


_KEPT: weakref.WeakKeyDictionary[keras.layers.Layer, _Kept] = (
    weakref.WeakKeyDictionary()
)


def compiled(
    function: Callable[..., Any], model: Any, *static: Any
) -> Callable[..., Any]:
    """Compiles a function of a model, or finds it compiled.

    For a Keras model the function is compiled again if the result could differ:
    if a layer or a variable was replaced, or an attribute of a layer that is a
    number, a string, a function, an array, a tensor or a distribution, or a
    list, tuple or dict of such. Values of variables may change. A model that is
    not a Keras model may change in ways that cannot be seen: for it the
    function is compiled at each call.

    Args:
        function: `function(model, *static, *tensors)`, the same object each
            time.
        model: a `LatentModel`.
        *static: further arguments, hashable, not tensors.

    Returns:
        A function of the tensors.
    """
    if not isinstance(model, keras.layers.Layer):
        return jit(functools.partial(function, model, *static))
    parts = _parts(model)
    kept = _KEPT.get(model)
    if kept is None or not _are_same(kept.parts, parts):
        kept = _KEPT[model] = _Kept(parts)
    key = (function, *static)
    if key not in kept.functions:
        while len(kept.functions) >= _LIMIT:
            del kept.functions[next(iter(kept.functions))]
        # The kept function must not keep the model alive.
        weak = weakref.ref(model)
        # A partial: TensorFlow would count the traces of all lambdas written
        # here as those of one function, and warn of too many.
        kept.functions[key] = jit_with_variables(
            functools.partial(_called, function, weak, static), model.variables
        )
    return kept.functions[key]


def _called(
    function: Callable[..., Any],
    model: Callable[[], Any],
    static: tuple[Any, ...],
    *tensors: Any,
) -> Any:
    return function(model(), *static, *tensors)


def forget(model: Any) -> None:
    """Drops the functions of a model.

    Args:
        model: a Keras model.
    """
    _KEPT.pop(model, None)


def _parts(model: keras.layers.Layer) -> list[Any]:
    """What a trace of the model depends on: references and plain values."""
    found: list[Any] = [weakref.ref(v) for v in model.variables]
    for layer in all_layers(model):
        found.append(weakref.ref(layer))
        for name, value in vars(layer).items():
            if name in _OF_LOOPS:
                continue
            leaves = list(_leaves(value))
            if leaves:
                found += [name, *leaves]
    return found


def _leaves(value: Any) -> Iterator[Any]:
    """The compared parts of an attribute, and how they are nested."""
    if isinstance(value, _OBJECTS) or ops.is_tensor(value):
        yield weakref.ref(value)
    elif isinstance(value, _VALUES):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        yield len(value)
        items = value.items() if isinstance(value, dict) else value
        for item in items:
            yield from _leaves(item)


def _are_same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(map(_is_same, old, new))


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(new, weakref.ref):
        return isinstance(old, weakref.ref) and old() is new()
    return type(old) is type(new) and (old is new or old == new)
