"""Elements that are missing because of their own value."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import canonical_event_shape, check_one_of
from tfp_vae.distributions import Bernoulli
from tfp_vae.distributions.softplus import INVERSE_OF_ONE, softplus
from tfp_vae.substrate import Tensor, tfd

__all__ = ["SelfMasking"]


@keras.saving.register_keras_serializable("tfp_vae")
class SelfMasking(keras.layers.Layer):
    """Each element is observed with a probability that depends on its value.

    ```none
    logit p(element d is observed | x) = intercept_d - slope_d x_d
    ```

    Examples are a sensor that saturates, or an income that is not reported
    because it is high. With this layer as `missing_model` a `VAE` is a
    not-MIWAE. If you know the sign of the slope, state it: data may determine
    it badly.

    Args:
        event_shape: int or tuple of ints, the shape of one example.
        missing_when: `"high"` if large values are missing more often (slopes
            are positive), `"low"` if small ones are, or None if this is not
            known, and may differ from element to element.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: completed data, `[B, *event]`.

    Returns:
        `tfd.Independent(Bernoulli)` over the mask, `[*event]`: 1 where
        observed.

    Raises:
        ValueError: if a size is not a positive int, or `missing_when` is
            another word.

    Example:
    ```python
    vae = VAE(
        encoder, decoder, objective=IWAE(20), missing_values=np.nan,
        missing_model=SelfMasking(5, missing_when="high"),
    )
    ```

    Reference:
        Ipsen, Mattei, Frellsen. not-MIWAE: deep generative modelling with
        missing not at random data. ICLR 2021. https://arxiv.org/abs/2006.12871
    """

    def __init__(
        self, event_shape: Any, missing_when: str | None = None, **kwargs: Any
    ) -> None:
        if kwargs.get("dtype") is None:
            # Data must not be rounded to half precision.
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        self.event_shape = canonical_event_shape(event_shape)
        if missing_when is not None:
            check_one_of("missing_when", missing_when, ("high", "low"))
        self.missing_when = missing_when
        start = 0.0 if missing_when is None else INVERSE_OF_ONE
        self.raw_slope = self.add_weight(
            shape=self.event_shape,
            initializer=keras.initializers.Constant(start),
            name="raw_slope",
        )
        self.intercept = self.add_weight(
            shape=self.event_shape, initializer="zeros", name="intercept"
        )
        self.built = True

    @property
    def slope(self) -> Tensor:
        """How much the log-odds of being missing rise for each unit of x."""
        raw = ops.convert_to_tensor(self.raw_slope)
        if self.missing_when is None:
            return raw
        return softplus(raw) if self.missing_when == "high" else -softplus(raw)

    def call(self, inputs: Tensor) -> tfd.Distribution:
        logits = ops.convert_to_tensor(self.intercept) - self.slope * inputs
        dtype = keras.backend.standardize_dtype(logits.dtype)
        return tfd.Independent(
            Bernoulli(logits=logits, dtype=dtype), len(self.event_shape)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "event_shape": self.event_shape,
            "missing_when": self.missing_when,
        }
