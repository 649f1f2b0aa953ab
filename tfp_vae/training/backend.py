"""What the fast loop needs from a backend, and the choice of one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import keras

from tfp_vae.substrate import KERAS_COMPILES_LOOPS
from tfp_vae.training.plan import Plan

__all__ = ["Backend", "backend"]


class Backend(Protocol):
    """What each backend implements, in a file of its own."""

    #: Whether Keras compiles loops of several steps over a pipeline.
    LOOPS_PIPELINES: bool

    def can_loop(self, model: keras.Model) -> bool:
        """Whether our loop may replace that of Keras.

        Args:
            model: compiled, in Keras' sense.

        Returns:
            A bool; False for eager steps, and where data are spread over
            devices.
        """

    def fast_step(
        self, model: keras.Model, step: Callable[..., Any]
    ) -> Callable[..., Any]:
        """A step of training as this backend runs it best.

        Args:
            model: compiled, in Keras' sense.
            step: Keras' own, or one of the user.

        Returns:
            A step; `step` itself if there is nothing to improve.
        """

    def looped(self, model: keras.Model, plan: Plan) -> Callable[..., Any]:
        """What runs each execution of several steps on rows that are held.

        Args:
            model: whose `train_step` runs.
            plan: how many steps, and how they are compiled.

        Returns:
            A function like Keras' `train_function`, with the rows before the
            other arguments, and as the last argument an iterator over batches
            of row numbers.
        """

    def keeping_state(self, model: keras.Model) -> AbstractContextManager[None]:
        """Makes the model keep its variables if an error is raised inside.

        Args:
            model: compiled, in Keras' sense.

        Returns:
            A context.
        """


def _running() -> Backend:
    if KERAS_COMPILES_LOOPS:
        from tfp_vae.training import tensorflow_loop

        return tensorflow_loop
    from tfp_vae.training import jax_loop

    return jax_loop


#: The implementation for the running backend.
backend: Backend = _running()
