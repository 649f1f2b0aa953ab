"""A Keras model whose training runs several steps in one compiled loop."""

import functools
from typing import Any

import keras
import numpy as np

from tfp_vae.models import pace
from tfp_vae.models.execution import Rows
from tfp_vae.models.rows import are_arrays, held, split

__all__ = ["LoopedModel"]


class LoopedModel(keras.Model):
    """`keras.Model`, but for the time that `fit` takes.

    `fit` chooses how many steps run at once, and holds arrays on the device:
    Keras' trainer is then given the numbers of their rows alone.
    """

    steps_per_execution: int
    train_function: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Whether `fit` chooses how many steps run at once.
        self._chooses_pace = True
        # The compiled loop over them, and the data while they are held.
        self._execution: Any = None
        self._rows: Rows | None = None

    def compile(
        self, *args: Any, steps_per_execution: int | str = "auto", **kwargs: Any
    ) -> None:
        self._chooses_pace = steps_per_execution == "auto"
        self._execution = None
        super().compile(
            *args,
            steps_per_execution=1
            if self._chooses_pace
            else steps_per_execution,
            **kwargs,
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        if config and self._chooses_pace:
            config["steps_per_execution"] = "auto"
        return config

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        *,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        class_weight: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        if self.compiled and self._chooses_pace:
            self._set_pace(
                pace.steps_per_execution(
                    self,
                    x,
                    batch_size,
                    kwargs.get("steps_per_epoch"),
                    getattr(callbacks, "callbacks", callbacks),
                )
            )
        if (
            self.compiled
            and class_weight is None
            and self.steps_per_execution > 1
            and pace.loop.can_loop(self)
            and are_arrays(x, y, sample_weight)
        ):
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = split(
                    (x, y, sample_weight), validation_split
                )
            self._rows = held(x, y, sample_weight)
        keras_own = getattr(self, "train_function", None)
        if self._rows is not None:
            # The data are where the steps run: numbers of rows will do.
            x, y, sample_weight = np.arange(len(self._rows[0])), None, None
            self.train_function = None
        try:
            return super().fit(
                x,
                y,
                batch_size,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                class_weight=class_weight,
                sample_weight=sample_weight,
                **kwargs,
            )
        finally:
            if self._rows is not None:
                self._rows, self.train_function = None, keras_own

    def make_train_function(self, force: bool = False) -> None:
        """Makes what `fit` runs for each execution, as Keras calls it.

        Args:
            force: whether to make it anew.
        """
        if self._rows is None:
            super().make_train_function(force)
            return
        if self._execution is None or force:
            self._execution = pace.loop.looped(self, self.steps_per_execution)
        self.train_function = functools.partial(self._execution, self._rows)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        several = self.steps_per_execution
        # Keras would unroll several steps, and take long to trace them.
        self.steps_per_execution = 1 if self._chooses_pace else several
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.steps_per_execution = several

    def _set_pace(self, steps: int) -> None:
        """Sets `steps_per_execution`, on which the compiled loops depend."""
        if steps != self.steps_per_execution:
            self.steps_per_execution = steps
            self.train_function = None
            self.test_function = None
            self._execution = None
