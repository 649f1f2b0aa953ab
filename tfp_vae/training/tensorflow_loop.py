"""Several training steps in one loop of a TensorFlow graph."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_vae.keras_internals import all_layers
from tfp_vae.training.execution import execution
from tfp_vae.training.plan import Plan
from tfp_vae.training.rows import Rows

__all__ = [
    "LOOPS_PIPELINES",
    "can_loop",
    "fast_step",
    "keeping_state",
    "looped",
]

#: Keras compiles its own loop.
LOOPS_PIPELINES = True

# In a loop XLA on a CPU takes several times as long for the gradients of
# convolutions. The other operations it expands into loops of its own.
_SLOW_IN_XLA = re.compile(
    ".*Conv.*|(Stateless)?While|Cholesky.*|MatrixTriangularSolve|MatrixInverse"
    "|MatrixSolve.*|MatrixDeterminant|LogMatrixDeterminant|Qr|Svd|.*Eig.*"
)
# XLA silently drops these, or draws them without TensorFlow's seed.
_LOST_IN_XLA = re.compile(
    "Assert|CheckNumerics.*|Print.*|Random.*|TruncatedNormal|Multinomial"
)


def can_loop(model: keras.Model) -> bool:
    """Whether this loop may replace Keras' own.

    Args:
        model: compiled, in Keras' sense.

    Returns:
        A bool; False for eager steps and under a `tf.distribute` strategy.
    """
    plain = tf.distribute.get_strategy()
    return (
        not model.run_eagerly
        and not tf.distribute.has_strategy()
        and model.distribute_strategy is plain
    )


def fast_step(
    model: keras.Model, step: Callable[..., Any]
) -> Callable[..., Any]:
    """A step of training as this backend runs it best: see `Backend`.

    Args:
        model: compiled, in Keras' sense.
        step: Keras' own, or one of the user.

    Returns:
        `step`: there is nothing to improve.
    """
    return step


def keeping_state(model: keras.Model) -> contextlib.AbstractContextManager:
    """See `Backend`: on TensorFlow variables always have their values.

    Args:
        model: any.

    Returns:
        An empty context.
    """
    return contextlib.nullcontext()


def looped(model: keras.Model, plan: Plan) -> Callable[..., Any]:
    """What runs each execution of several steps on rows that are held.

    Keras' own loop takes each batch out of the pipeline in the graph, where its
    size is not known, and at each step asks twice whether there is another
    batch.

    Args:
        model: whose `train_step` runs.
        plan: how many steps, and whether XLA may compile the loop.

    Returns:
        A function from the rows and an iterator over batches of row numbers to
        the logs after the last step.
    """

    @tf.function(jit_compile=model.jit_compile, reduce_retracing=True)
    def step(rows: Rows, numbers: Any) -> Any:
        data = keras.tree.map_structure(lambda r: tf.gather(r, numbers), rows)
        return model.train_step(keras.utils.pack_x_y_sample_weight(*data))

    loop = _Loop(step, model, plan.may_use_xla)
    run = execution(
        lambda _, rows, batches, count: (loop(rows, batches, count), None),
        lambda _, rows, numbers: (step(rows, numbers), None),
        np.stack,
        plan.steps,
    )
    return lambda rows, iterator: run(rows, None, iterator)[0]


class _Loop:
    """A step in a loop, in XLA as one piece where that is better.

    As one piece it keeps the weights in place between two steps.
    """

    def __init__(
        self, step: Any, model: keras.Model, may_compile: bool
    ) -> None:
        def steps(rows: Rows, batches: Any, count: Any) -> Any:
            # Not a `for`: AutoGraph fails on some newer versions of Python.
            _, logs = tf.while_loop(
                lambda i, _: i < count,
                lambda i, _: (i + 1, step(rows, batches[i])),
                (tf.constant(1), step(rows, batches[0])),
            )
            return logs

        self._step = step
        self._plain = tf.function(steps, reduce_retracing=True, autograph=False)
        self._compiled = tf.function(steps, jit_compile=True, autograph=False)
        self._is_own_choice = not model.jit_compile
        self._compiles: bool | None = None
        if self._is_own_choice and not (
            may_compile
            and all(layer.supports_jit for layer in all_layers(model))
        ):
            self._compiles = False

    def __call__(self, rows: Rows, batches: Any, count: int) -> Any:
        number = tf.constant(count)
        if self._compiles is None:
            step = self._step.get_concrete_function(rows, batches[0])
            self._compiles = _suits_xla(step, self._is_own_choice)
        if not self._compiles:
            return self._plain(rows, batches, number)
        try:
            return self._compiled(rows, batches, number)
        except tf.errors.OpError:
            if not self._is_own_choice:
                raise
            # XLA lacks an operation. It runs all or nothing: no step has been
            # taken.
            self._compiles = False
            return self._plain(rows, batches, number)


def _suits_xla(step: Any, keeps_effects: bool) -> bool:
    """Whether a traced step is faster as part of a loop in XLA, and the same.

    Args:
        step: a concrete function.
        keeps_effects: whether assertions and seeds must not be lost.
    """
    graph = step.graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    return not any(
        _SLOW_IN_XLA.fullmatch(node.op)
        or (keeps_effects and _LOST_IN_XLA.fullmatch(node.op))
        for node in nodes
    )
