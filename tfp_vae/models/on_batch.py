"""Training and testing on one batch."""

from typing import Any

from tfp_vae.models.data_checks import examine

__all__ = ["OnBatch"]


class OnBatch:
    """The part of `VAE` that takes single batches."""

    built: bool

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """One step, as `keras.Model.train_on_batch`; values are not checked.

        Args:
            x: data, `[B, *event]`.
            *args: of `keras.Model.train_on_batch`.
            **kwargs: of `keras.Model.train_on_batch`.

        Returns:
            The loss and its terms.
        """
        self._build_on(x)
        return super().train_on_batch(  # type: ignore[misc]
            x, *args, **kwargs
        )

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch, as `keras.Model.test_on_batch`.

        Args:
            x: data, `[B, *event]`.
            *args: of `keras.Model.test_on_batch`.
            **kwargs: of `keras.Model.test_on_batch`.

        Returns:
            The loss and its terms.
        """
        self._build_on(x)
        return super().test_on_batch(  # type: ignore[misc]
            x, *args, **kwargs
        )

    def _build_on(self, x: Any) -> None:
        # Keras would build the model symbolically on JAX, which fails for a
        # model that returns distributions.
        if not self.built:
            examine(self, x, None, support=False)
