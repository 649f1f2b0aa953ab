"""The base of layers whose event is one vector."""

from typing import Any

from tfp_vae.arguments import vector_size
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width

__all__ = ["VectorLayer"]


class VectorLayer(DistributionLayer):
    """The common part: an event of one dimension, parameters flat.

    Subclasses define `params_size(event_size)`.

    Args:
        event_size: int, the length of the vector.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., params_size(event_size)]`.

    Returns:
        A `tfd.Distribution`, event shape `[event_size]`.

    Raises:
        ValueError: if `event_size` is not a positive int, or the inputs are of
            the wrong width.
    """

    def __init__(
        self,
        event_size: int,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            vector_size(event_size), convert_to_tensor_fn, **kwargs
        )
        self.event_size = self.event_shape[0]

    @staticmethod
    def params_size(event_size: int) -> int:
        raise NotImplementedError

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["event_shape"]
        return {**config, "event_size": self.event_size}
