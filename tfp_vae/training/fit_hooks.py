"""What a model may add to `fit` and `evaluate`."""

import keras

from tfp_vae.training.data import Data

__all__ = ["FitHooks"]


class FitHooks:
    """The hooks, each without effect until a model overrides it."""

    def before_fit(self, data: Data) -> Data:
        """Looks at the data before the first step, and builds the model.

        Args:
            data: as `fit` was given them, or those to validate on.

        Returns:
            The data to be used.
        """
        return data

    def before_evaluate(self, data: Data) -> Data:
        """The same before `evaluate`.

        Args:
            data: as `evaluate` was given them.

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
        """Puts the model in order after training was broken off.

        Args:
            error: what was raised. It goes on to the user afterwards.
            own: what `own_callbacks` gave.
        """
