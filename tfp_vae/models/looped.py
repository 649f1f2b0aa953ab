"""A Keras model whose training runs several steps in one compiled loop."""

import functools
from typing import Any

import keras

from tfp_vae.models import pace
from tfp_vae.models.execution import Rows
from tfp_vae.models.rows import RowNumbers, are_arrays, held, split

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
        # Whether it may have XLA compile them where Keras by itself would not.
        self._chooses_compiler = True
        self._may_compile = False
        # The compiled loop over them, and the data while they are held.
        self._execution: Any = None
        self._rows: Rows | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        self._chooses_pace = steps_per_execution == "auto"
        self._chooses_compiler = jit_compile == "auto"
        self._may_compile = False
        self._execution = None
        super().compile(
            optimizer=optimizer,
            loss=loss,
            steps_per_execution=1
            if self._chooses_pace
            else steps_per_execution,
            jit_compile=jit_compile,
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
        epochs: int = 1,
        *,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        if self.compiled:
            steps = pace.steps(x, batch_size, kwargs.get("steps_per_epoch"))
            self._choose(x, steps, epochs, callbacks)
        if (
            self.compiled
            and class_weight is None
            and isinstance(shuffle, bool)
            and pace.loop.can_loop(self)
            and are_arrays(x, y, sample_weight)
            # One of a subclass expects the data themselves.
            and type(self).make_train_function
            is LoopedModel.make_train_function
        ):
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = split(
                    (x, y, sample_weight), validation_split
                )
            self._rows = held(x, y, sample_weight)
        keras_own = getattr(self, "train_function", None)
        if self._rows is not None:
            # The data are where the steps run: numbers of rows will do.
            x = RowNumbers(len(self._rows[0]), batch_size or 32, shuffle)
            y = sample_weight = None
            self.train_function = None
        try:
            return super().fit(
                x,
                y,
                batch_size,
                epochs,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
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
            self._execution = pace.loop.looped(
                self, self.steps_per_execution, self._may_compile
            )
        self.train_function = functools.partial(self._execution, self._rows)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        several = self.steps_per_execution
        # Keras would unroll several steps, and take long to trace them.
        self.steps_per_execution = 1 if self._chooses_pace else several
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.steps_per_execution = several

    def _choose(self, x: Any, steps: int, epochs: int, callbacks: Any) -> None:
        """Sets what was left to `fit`, on which the compiled loops depend."""
        if self._chooses_pace:
            several = pace.steps_per_execution(
                self, x, steps, getattr(callbacks, "callbacks", callbacks)
            )
            if several != self.steps_per_execution:
                self.steps_per_execution = several
                self.train_function = None
                self.test_function = None
                self._execution = None
        if (
            self._chooses_compiler
            and not self._may_compile
            and pace.is_long(epochs * steps)
        ):
            self._may_compile, self._execution = True, None
