"""The only file that touches private Keras: one named function for each use.

Each names the file of Keras 3.15 from which it was read.
`test_keras_contract.py` has a test for each, so that an upgrade names what
broke.
"""

from typing import Any

import keras

__all__ = [
    "DataAdapter",
    "all_layers",
    "arguments_of_loss",
    "calls_within",
    "has_value",
    "inputs_by_name",
    "is_validation_of_fit",
    "keep_message",
    "leave_arguments_as_they_are",
]

# keras/src/trainers/data_adapters/data_adapter.py. Keras takes an adapter for
# `x`, but has no public name for its base class. Without it `fit` feeds Keras
# the arrays themselves.
DataAdapter: Any
try:
    from keras.src.trainers.data_adapters.data_adapter import (  # type: ignore[no-redef]
        DataAdapter,
    )
except ImportError:
    DataAdapter = None


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """A model and all layers inside it: keras/src/layers/layer.py.

    Args:
        model: any.

    Returns:
        All of them, including the model.
    """
    return list(model._flatten_layers())


def calls_within(
    model: keras.layers.Layer,
) -> list[tuple[Any, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """The calls that make up a functional model: keras/src/ops/function.py.

    Args:
        model: any layer.

    Returns:
        For each call the layer or operation, its inputs and its outputs, in the
        order of execution. Empty if the layer is not a functional model.
    """
    calls_by_depth = getattr(model, "_nodes_by_depth", {})
    return [
        (call.operation, call.input_tensors, call.outputs)
        for depth in sorted(calls_by_depth, reverse=True)
        for call in calls_by_depth[depth]
    ]


def leave_arguments_as_they_are(layer: keras.layers.Layer) -> None:
    """Keeps Keras from converting arguments: keras/src/layers/layer.py.

    Keras turns the arguments of a call into tensors, where it can: a
    distribution that can become a tensor would be lost.

    Args:
        layer: any.
    """
    layer._convert_input_args = False


def is_validation_of_fit(arguments: dict[str, Any]) -> bool:
    """Whether `fit` calls `evaluate`: keras/src/backend/*/trainer.py.

    Args:
        arguments: of `evaluate`, by name.

    Returns:
        A bool.
    """
    return bool(arguments.get("_use_cached_eval_dataset", False))


def keep_message(error: BaseException) -> None:
    """Has Keras pass an error on as it is: keras/src/utils/traceback_utils.py.

    Else it adds what the layer was called with, as text. That of a joint
    distribution runs its functions, which may fail, and hide the error.

    Args:
        error: about to leave the `call` of a layer.
    """
    error._keras_call_info_injected = True  # type: ignore[attr-defined]


def has_value(variable: keras.Variable) -> bool:
    """Whether a variable still has its value: keras/src/backend/jax/trainer.py.

    On JAX the trainer takes the values out of the variables while it runs, and
    gives them to the compiled step, which may reuse their memory.

    Args:
        variable: any.

    Returns:
        A bool.
    """
    value = variable._value
    return value is not None and not getattr(value, "is_deleted", bool)()


def arguments_of_loss(loss: keras.losses.Loss) -> dict[str, Any]:
    """The arguments of the function of a loss: keras/src/losses/losses.py.

    Not `get_config`, from which Keras leaves out the delta of a Huber loss.

    Args:
        loss: one of Keras' own.

    Returns:
        Arguments by name.
    """
    return dict(loss._fn_kwargs)


class _Inputs(dict[str, Any]):
    """Symbolic inputs by name, and whether they were given as a dict."""

    is_dict = False


def inputs_by_name(layer: keras.layers.Layer) -> _Inputs | None:
    """The inputs of a functional model: keras/src/models/functional.py.

    Args:
        layer: any.

    Returns:
        Symbolic tensors by the names of the inputs, or by the keys of the dict
        that the model was made with; None for a layer that is neither a
        functional nor a built sequential model.
    """
    if not isinstance(layer, keras.Model):
        return None
    tensors = getattr(layer, "inputs", None)
    if not tensors:
        return None
    struct = getattr(layer, "_inputs_struct", None)
    if isinstance(struct, dict):
        found = _Inputs(struct)
        found.is_dict = True
        return found
    return _Inputs((tensor.name, tensor) for tensor in tensors)
