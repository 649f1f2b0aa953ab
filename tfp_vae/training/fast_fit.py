"""A Keras model whose training runs several steps in one compiled loop."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras

from tfp_vae.training import plan as pace
from tfp_vae.training.data import are_arrays, split
from tfp_vae.training.rows import RowNumbers, Rows, held

__all__ = ["LoopedModel"]


class LoopedModel(keras.Model):
    """`keras.Model`, but for the time that `fit` takes.

    `fit` chooses how many steps run at once, and holds arrays on the device:
    Keras' trainer is then given the numbers of their rows alone.
    """

    steps_per_execution: int
    train_function: Any
    test_function: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Whether `fit` chooses how many steps run at once.
        self._chooses_pace = True
        # Whether it may have XLA compile them where Keras by itself would not.
        self._chooses_compiler = True
        self._may_compile = False
        # The compiled loop over them with what it was made for, and the data
        # while they are held.
        self._execution: Any = None
        self._execution_key: Any = None
        self._rows: Rows | None = None
        # What `evaluate` runs where it may not take several steps at once.
        self._single_test_function: Any = None

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
        self._execution = self._single_test_function = None
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
        if config and self._chooses_compiler:
            config["jit_compile"] = "auto"
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
        per_epoch = kwargs.get("steps_per_epoch")
        if self.compiled:
            if isinstance(callbacks, keras.callbacks.Callback):
                callbacks = [callbacks]
            self._choose(
                x,
                pace.steps_of_epoch(x, batch_size, per_epoch),
                epochs - kwargs.get("initial_epoch", 0),
                [n for n in (per_epoch, kwargs.get("validation_steps")) if n],
                getattr(callbacks, "callbacks", callbacks) or [],
            )
        rows = None
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
            rows = held(x, y, sample_weight)
        with self._holding(rows):
            if rows is not None:
                # The data are where the steps run: their numbers will do.
                x = RowNumbers(len(rows[0]), batch_size, per_epoch, shuffle)
                y = sample_weight = None
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

    def make_train_function(self, force: bool = False) -> None:
        """Makes what `fit` runs for each execution, as Keras calls it.

        Args:
            force: whether to make it anew.
        """
        if self._rows is None:
            super().make_train_function(force)
            return
        key = self.steps_per_execution, self.jit_compile, self._may_compile
        if self._execution is None or key != self._execution_key or force:
            self._execution = pace.loop.looped(
                self, self.steps_per_execution, self._may_compile
            )
            self._execution_key = key
        self.train_function = functools.partial(self._execution, self._rows)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """One step of training.

        Args:
            *args: the data; on JAX the state of the model comes before them.
            **kwargs: the same by name.

        Returns:
            The logs; on JAX, beside them, the state.
        """
        step = super().train_step
        if self._rows is None:  # else the loop sees to it
            step = pace.loop.refined(self, step)
        return step(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._holding(None):  # also from within `fit`
            return super().train_on_batch(*args, **kwargs)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        several, function = self.steps_per_execution, self.test_function
        single = self._chooses_pace and steps and steps % several
        if single:
            self.steps_per_execution = 1
            self.test_function = self._single_test_function
        try:
            return super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
            )
        finally:
            if single:
                self._single_test_function = self.test_function
                self.steps_per_execution = several
                self.test_function = function

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        several = self.steps_per_execution
        # Keras would unroll several steps, and take long to trace them.
        self.steps_per_execution = 1 if self._chooses_pace else several
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.steps_per_execution = several

    def _choose(
        self, x: Any, steps: int, epochs: int, exact: list[int], callbacks: Any
    ) -> None:
        """Sets what was left to `fit`."""
        if self._chooses_pace:
            several = pace.steps_per_execution(self, x, steps, exact, callbacks)
            if several != self.steps_per_execution:
                self.steps_per_execution = several
                self.train_function = None
                self.test_function = None
        if self._chooses_compiler and not self.jit_compile:
            self._may_compile |= pace.is_long(epochs * steps)

    @contextlib.contextmanager
    def _holding(self, rows: Rows | None) -> Iterator[None]:
        """While rows are held `train_function` is another than Keras' own."""
        outer, function = self._rows, getattr(self, "train_function", None)
        if rows is not outer:
            self._rows, self.train_function = rows, None
        try:
            yield
        finally:
            # Unless the model was compiled meanwhile.
            if rows is not outer and self.train_function is not None:
                self.train_function = function
            self._rows = outer
