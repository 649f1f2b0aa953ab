"""`compile` of any Keras model, which may let `fit` choose how steps run."""

import dataclasses
from typing import Any

import keras

from tfp_vae.training.arguments import check_counts, check_jit_compile

__all__ = ["CompileChoices"]


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the user left to `fit` when the model was compiled."""

    steps: bool = True
    xla: bool = True


class CompileChoices:
    """The part of `FastFit` that remembers what was left to `fit`."""

    _choices: Choices = Choices()

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Configures the model for training, as `keras.Model.compile` does.

        Args:
            optimizer: as in Keras.
            loss: as in Keras.
            steps_per_execution: as in Keras, or `"auto"`: `fit` takes up to 32
                steps at once, unless a callback follows single batches (or, on
                JAX, the data are not arrays). Results are the same.
            jit_compile: as in Keras, or `"auto"`: in addition to Keras' choice,
                on TensorFlow XLA compiles steps that run at once, if `fit`
                takes 1,000 or more and they have neither convolutions nor
                assertions. XLA draws other noise from the same seed.
            **kwargs: as in Keras.

        Raises:
            ValueError: if `steps_per_execution` is neither a positive int nor
                `"auto"`, or `jit_compile` neither a bool nor `"auto"`.
        """
        is_auto = steps_per_execution == "auto"
        if not is_auto:
            check_counts(steps_per_execution=steps_per_execution)
        check_jit_compile(jit_compile)
        self._choices = Choices(is_auto, jit_compile == "auto")
        self.forget_compiled()
        super().compile(  # type: ignore[misc]
            optimizer=optimizer,
            loss=loss,
            steps_per_execution=1 if is_auto else steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )

    def forget_compiled(self) -> None:
        """Drops what was compiled for other choices; see `FastFit`."""

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()  # type: ignore[misc]
        if config and self._choices.steps:
            config["steps_per_execution"] = "auto"
        if config and self._choices.xla:
            config["jit_compile"] = "auto"
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model, and makes the optimizer's variables.

        Args:
            config: what `get_compile_config` gave.
        """
        model: Any = self
        self.compile(**keras.saving.deserialize_keras_object(config))
        if model.optimizer is not None and model.built:
            model.optimizer.build(model.trainable_variables)
