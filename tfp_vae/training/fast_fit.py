"""`fit` of any Keras model in less time: data on the device, steps in a loop.

```none
before_fit -> plan -> Keras' fit -> after_failure, if it fails
```
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfp_vae.keras_internals import is_validation_of_fit
from tfp_vae.training.arguments import (
    callbacks_as_list,
    check_counts,
)
from tfp_vae.training.backend import backend
from tfp_vae.training.compile_choices import CompileChoices
from tfp_vae.training.data import Data
from tfp_vae.training.fit_hooks import FitHooks
from tfp_vae.training.follows_batches import follows_batches
from tfp_vae.training.plan import Plan, make_plan
from tfp_vae.training.rows import RowNumbers, Rows, can_hold, held
from tfp_vae.training.switches import Switches

__all__ = ["FastFit"]


@dataclasses.dataclass(frozen=True)
class _Run:
    """What one call of `fit` needs: its plan, and the rows if they are held."""

    plan: Plan
    rows: Rows | None


@dataclasses.dataclass
class _Compiled:
    """The compiled functions, for the next call of `fit`."""

    #: The plan, and the `jit_compile` of the model.
    key: tuple[Plan, bool] | None = None
    loop: Callable[..., Any] | None = None
    #: What `evaluate` runs if it may not take several steps at once.
    single_test_function: Any = None


class FastFit(CompileChoices, FitHooks):
    """A mixin before a Keras model: `class Mine(FastFit, keras.Model)`.

    `fit` chooses how many steps run at once, and holds arrays on the device:
    Keras' trainer then gets only row numbers. Results are those of Keras. A
    model adds its own actions by the hooks `before_fit`,
    `before_evaluate`, `own_callbacks` and `after_failure`.
    """

    #: What `fit` may do for speed.
    switches: Switches = Switches()

    steps_per_execution: int
    train_function: Any
    test_function: Any
    _run: _Run | None = None
    _made: _Compiled | None = None

    def forget_compiled(self) -> None:
        self._made = None

    # What Keras calls, and what users call.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:
        """Trains the model, as `keras.Model.fit` does.

        Arrays of up to 1 GiB are copied to the device once per call, and the
        compiled steps take their rows there.

        Args:
            x: data, arrays or a pipeline of batches.
            y: targets, when x are arrays.
            batch_size: as in Keras.
            epochs: as in Keras.
            verbose: as in Keras.
            callbacks: one, a list of them, or a `keras.callbacks.CallbackList`.
            validation_split: as in Keras.
            validation_data: as in Keras.
            shuffle: as in Keras; the order of arrays is drawn by `np.random`,
                which `keras.utils.set_random_seed` seeds.
            class_weight: as in Keras.
            sample_weight: `[N]`, the weight of each example in the loss.
            initial_epoch: as in Keras.
            steps_per_epoch: as in Keras.
            validation_steps: as in Keras.
            validation_batch_size: as in Keras.
            validation_freq: as in Keras.

        Returns:
            The history.

        Raises:
            TypeError, ValueError: before the first step, if the parts of the
                model, the shapes or the values of the data do not fit, or a
                number is out of range.
        """
        check_counts(
            batch_size=batch_size,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        data = self.before_fit(Data(x, y, sample_weight))
        if validation_data is not None:
            validation_data = self._validation(validation_data)
        own = self.own_callbacks()
        callbacks, verbose = callbacks_as_list(callbacks, verbose)
        callbacks = [*own, *callbacks]
        model: Any = self
        plan = Plan()
        if model.compiled:
            plan = self._plan(
                data,
                data.steps_of_epoch(batch_size, steps_per_epoch),
                epochs - initial_epoch,
                [n for n in (steps_per_epoch, validation_steps) if n],
                callbacks,
                feeds_rows=class_weight is None and isinstance(shuffle, bool),
            )
        rows = None
        if plan.holds_rows:
            if validation_split and validation_data is None:
                data, validation_data = data.split(validation_split)
            rows = held(data)
        with self._running(_Run(plan, rows)), backend.keeping_state(model):
            if rows is not None:
                # The data are where the steps run: row numbers are enough.
                data = Data(
                    RowNumbers(
                        data.num_rows, batch_size, steps_per_epoch, shuffle
                    )
                )
            try:
                return super().fit(  # type: ignore[misc]
                    data.x,
                    data.y,
                    batch_size=batch_size,
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=callbacks,
                    validation_split=validation_split,
                    validation_data=validation_data,
                    shuffle=shuffle,
                    class_weight=class_weight,
                    sample_weight=data.sample_weight,
                    initial_epoch=initial_epoch,
                    steps_per_epoch=steps_per_epoch,
                    validation_steps=validation_steps,
                    validation_batch_size=validation_batch_size,
                    validation_freq=validation_freq,
                )
            except BaseException as error:
                self.after_failure(error, own)
                raise

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The loss and the metrics, as `keras.Model.evaluate` gives them.

        Args:
            x: data, as in `fit`.
            y: targets, when x are arrays.
            batch_size: as in Keras.
            verbose: as in Keras.
            sample_weight: `[N]`, the weight of each example.
            steps: as in Keras.
            callbacks: as in Keras.
            return_dict: as in Keras.
            **kwargs: what Keras passes to itself.

        Returns:
            Numbers, in a list or a dict.

        Raises:
            TypeError, ValueError: as `fit`.
        """
        check_counts(batch_size=batch_size, steps=steps)
        data = Data(x, y, sample_weight)
        # `fit` has checked its validation data already.
        if not is_validation_of_fit(kwargs):
            data = self.before_evaluate(data)
        model: Any = self
        state = (
            contextlib.nullcontext()
            if self._run is not None
            else backend.keeping_state(model)
        )
        with self._whole_executions(steps), state:
            return super().evaluate(  # type: ignore[misc]
                data.x,
                data.y,
                batch_size,
                verbose,
                data.sample_weight,
                steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        check_counts(batch_size=batch_size, steps=steps)
        several = self.steps_per_execution
        # Keras would unroll several steps, and take long to trace them.
        self.steps_per_execution = 1 if self._choices.steps else several
        model: Any = self
        try:
            with backend.keeping_state(model):
                return super().predict(  # type: ignore[misc]
                    x, batch_size, verbose, steps, callbacks
                )
        finally:
            self.steps_per_execution = several

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._running(None):  # also from within `fit`
            return super().train_on_batch(*args, **kwargs)  # type: ignore[misc]

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function that `fit` runs for each execution (Keras' term).

        Args:
            force: whether to make it again.
        """
        if self._run is None or self._run.rows is None:
            with self._fast_step():
                super().make_train_function(force)  # type: ignore[misc]
            return
        model: Any = self
        made = self._made
        plan = dataclasses.replace(
            self._run.plan, steps=self.steps_per_execution
        )
        key = plan, model.jit_compile
        if made is None or made.loop is None or force or key != made.key:
            made = self._made = _Compiled(key, backend.looped(model, plan))
        assert made.loop is not None
        self.train_function = functools.partial(made.loop, self._run.rows)

    # The implementation.

    def _validation(self, given: Any) -> Any:
        is_pipeline = not isinstance(given, (list, tuple))
        data = self.before_fit(
            Data(given)
            if is_pipeline
            else Data(*keras.utils.unpack_x_y_sample_weight(given))
        )
        return data.x if is_pipeline else tuple(data)

    def _plan(
        self,
        data: Data,
        steps: int,
        epochs: int,
        stops: list[int],
        callbacks: list[keras.callbacks.Callback],
        feeds_rows: bool,
    ) -> Plan:
        """Decides how `fit` runs, and sets this in Keras."""
        model: Any = self
        choices = self._choices
        plan = make_plan(
            steps=steps,
            epochs=epochs,
            stops=stops,
            follows_batches=any(map(follows_batches, callbacks)),
            num_bytes=data.num_bytes if data.are_arrays else None,
            can_loop=backend.can_loop(model),
            loops_pipelines=backend.LOOPS_PIPELINES,
            chosen_steps=None if choices.steps else self.steps_per_execution,
            chooses_xla=choices.xla and not model.jit_compile,
            switches=self.switches,
        )
        made = self._made
        plan = dataclasses.replace(
            plan,
            holds_rows=plan.holds_rows
            and feeds_rows
            and can_hold()
            # An override in a subclass expects the data themselves.
            and type(self).make_train_function is FastFit.make_train_function,
            # What XLA has compiled already stays in use.
            may_use_xla=plan.may_use_xla
            or bool(made and made.key and made.key[0].may_use_xla),
        )
        if plan.steps != self.steps_per_execution:
            self.steps_per_execution = plan.steps
            self.train_function = None
            self.test_function = None
        return plan

    @contextlib.contextmanager
    def _running(self, run: _Run | None) -> Iterator[None]:
        """While rows are held, `train_function` is not Keras' own."""
        outer, function = self._run, getattr(self, "train_function", None)
        swaps = (run and run.rows) is not (outer and outer.rows)
        self._run = run
        if swaps:
            self.train_function = None
        try:
            yield
        finally:
            # Unless the model was compiled in the meantime.
            if swaps and self.train_function is not None:
                self.train_function = function
            self._run = outer

    @contextlib.contextmanager
    def _fast_step(self) -> Iterator[None]:
        """Keras compiles `self.train_step`: inside, this is the fast one."""
        model: Any = self
        step = model.train_step
        fast = step
        if self.switches.convolutions:
            fast = backend.fast_step(model, step)
        if fast is step:
            yield
            return
        vars(self)["train_step"] = fast
        try:
            yield
        finally:
            del vars(self)["train_step"]

    @contextlib.contextmanager
    def _whole_executions(self, steps: int | None) -> Iterator[None]:
        """Keras stops only between two executions: one step in each if needed.

        Args:
            steps: as `evaluate` takes it.
        """
        several, function = self.steps_per_execution, self.test_function
        if not (self._choices.steps and steps and steps % several):
            yield
            return
        if self._made is None:
            self._made = _Compiled()
        made = self._made
        self.steps_per_execution = 1
        self.test_function = made.single_test_function
        try:
            yield
        finally:
            made.single_test_function = self.test_function
            self.steps_per_execution = several
            self.test_function = function
