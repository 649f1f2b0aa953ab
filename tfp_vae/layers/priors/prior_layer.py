"""What learned priors share."""

from typing import Any

import keras

from tfp_vae.arguments import check_num_components

__all__ = ["PriorLayer"]


class PriorLayer(keras.layers.Layer):
    """Returns a mixture over latents, in float32 also in mixed precision."""

    def __init__(self, num_components: int, **kwargs: Any) -> None:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        self.num_components = check_num_components(num_components)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_components": self.num_components}
