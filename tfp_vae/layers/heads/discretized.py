"""Layers for whole numbers of many levels, such as 8-bit pixels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_num_components
from tfp_vae.distributions import discretized
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.heads.independent_layer import IndependentLayer, Mode
from tfp_vae.substrate import Tensor, tfd

__all__ = ["DiscretizedLogistic", "DiscretizedLogisticMixture"]


@keras.saving.register_keras_serializable("tfp_vae")
class DiscretizedLogistic(IndependentLayer):
    """Independent logistic variables, rounded to whole numbers.

    For raw 8-bit pixels, 0 to 255, of an integer or a floating dtype,
    and for other whole numbers of many levels: the log-likelihood is that of
    the data themselves, in nats (bits per pixel times log 2). Rescale the
    pixels for the encoder, not for the likelihood.

    The network's unit is half the range, h = (high - low) / 2, as in
    PixelCNN++: an untrained network, whose outputs are about 0, starts in the
    middle and covers the range.

    ```none
    loc   = (low + high) / 2 + h x         -1 is low, 1 is high
    scale = h softplus(x) + min_scale      in levels
    ```

    Args:
        event_shape: int or tuple of ints.
        scale: `"learned"`, `"shared"` (beginning at h) or a number, in levels.
        low: the least level.
        high: the greatest.
        min_scale: the floor of the scale, in levels. At the default a level can
            have 0.987 of the mass, and gradients stay moderate.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: locations, then raw scales if learned; flat or channels last.

    Returns:
        `tfd.Independent(DiscretizedLogistic)` over `event_shape`, of float
        dtype.

    Raises:
        ValueError: see `IndependentLayer`; or if `low` and `high` are not whole
            numbers in ascending order.

    Reference:
        Kingma et al. Improving variational inference with inverse
        autoregressive flow. NeurIPS 2016. https://arxiv.org/abs/1606.04934
    """

    parameters: tuple[str, ...] = ("loc", "scale")

    def __init__(
        self,
        event_shape: Any,
        low: int = 0,
        high: int = 255,
        min_scale: float = 0.1,
        *,
        scale: Mode = "learned",
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape, convert_to_tensor_fn, min_scale, scale=scale, **kwargs
        )
        self.low, self.high = discretized.check_levels(low, high)

    def _positive(self, raw: Tensor) -> Tensor:
        return 0.5 * (self.high - self.low) * softplus(raw) + self.min_scale

    def element_distribution(
        self, loc: Tensor, scale: Tensor
    ) -> tfd.Distribution:
        centre = 0.5 * (self.low + self.high)
        return discretized.DiscretizedLogistic(
            loc=centre + 0.5 * (self.high - self.low) * loc,
            scale=scale,
            low=self.low,
            high=self.high,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("tfp_vae")
class DiscretizedLogisticMixture(DiscretizedLogistic):
    """Independent mixtures of rounded logistic variables.

    Like `DiscretizedLogistic`, for pixels with several modes: the likelihood of
    PixelCNN++, except that the channels of a pixel are
    independent given z.

    Component c of K starts in the middle of the c-th of K equal parts of the
    range, so that the components differ from the start:

    ```none
    loc = (low + high) / 2 + h (x + (2 c + 1 - K) / K),     c = 0, ..., K - 1
    ```

    Args:
        event_shape: int or tuple of ints.
        num_components: int, the components K of each element.
        scale: as in `DiscretizedLogistic`, for each component.
        low: the least level.
        high: the greatest.
        min_scale: the floor of the scales, in levels.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits of the components, then locations, then raw scales if
            learned; flat or channels last. The components of an element are
            adjacent.

    Returns:
        `tfd.Independent(tfd.MixtureSameFamily)` over `event_shape`, of float
        dtype.

    Raises:
        ValueError: see `DiscretizedLogistic`; or if `num_components` is not a
            positive int.

    Reference:
        Salimans, Karpathy, Chen, Kingma. PixelCNN++: improving the PixelCNN
        with discretized logistic mixture likelihood and other modifications.
        ICLR 2017. https://arxiv.org/abs/1701.05517
    """

    parameters = ("logits", "loc", "scale")

    def __init__(
        self,
        event_shape: Any,
        num_components: int,
        low: int = 0,
        high: int = 255,
        min_scale: float = 0.1,
        *,
        scale: Mode = "learned",
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            low,
            high,
            min_scale,
            scale=scale,
            convert_to_tensor_fn=convert_to_tensor_fn,
            **kwargs,
        )
        self.num_components = check_num_components(num_components)

    @classmethod
    def params_size(  # type: ignore[override]
        cls, event_shape: Any, num_components: int, **modes: Any
    ) -> int:
        """`num_components` times the parameters of one component.

        Args:
            event_shape: int or tuple of ints.
            num_components: int.
            **modes: the mode of the scale, if it is not learned.

        Returns:
            The width of the layer before, when the parameters come flat. With
            the channels last it is the result for `event_shape[-1]`, in
            channels.
        """
        return check_num_components(num_components) * super().params_size(
            event_shape, **modes
        )

    def _params_per_element(self, modes: dict[str, Mode]) -> int:
        return self.num_components * super()._params_per_element(modes)

    def _raw_parameters(self, inputs: Tensor) -> dict[str, Tensor]:
        names = self._learned(self.modes)
        shape = tuple(inputs.shape)
        self._split_shape(shape)
        batch = ops.shape(inputs)[: self._batch_dims(shape)]
        whole = (*batch, *self.event_shape, self.num_components)
        parts = ops.split(inputs, len(names), axis=-1)
        return {
            name: ops.reshape(part, whole)
            for name, part in zip(names, parts, strict=True)
        }

    def element_distribution(  # type: ignore[override]
        self, logits: Tensor, loc: Tensor, scale: Tensor
    ) -> tfd.Distribution:
        count = self.num_components
        middles = (2.0 * np.arange(count) + 1.0 - count) / count
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=logits),
            super().element_distribution(
                loc + ops.cast(middles, loc.dtype), scale
            ),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_components": self.num_components}
