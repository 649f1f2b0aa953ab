"""What a model may add to `fit` and `evaluate`."""

import keras

from tfp_vae.training.data import Data

__all__ = ["FitHooks"]


class FitHooks:
    """The hooks, each without effect until a model overrides it."""

    def before_fit(self, data: Data) -> Data:
        """Checks the data before the first step, and builds the model.

        Args:
            data: the data of `fit`, or its validation data.

        Returns:
            The data to be used.
        """
        return data

    def before_evaluate(self, data: Data) -> Data:
        """The same before `evaluate`.

        Args:
            data: the data of `evaluate`.

        Returns:
            The data to be used.
        """
        return self.before_fit(data)

    def own_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks of the model itself, which come before those of the user.

        Returns:
            New ones for each call of `fit`.
        """
        return []

    def after_failure(
        self, error: BaseException, own: list[keras.callbacks.Callback]
    ) -> None:
        """Repairs the model after training was interrupted by an error.

        Args:
            error: what was raised. It goes on to the user afterwards.
            own: what `own_callbacks` gave.
        """
