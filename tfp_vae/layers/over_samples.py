"""A network for one batch, applied to several samples of it."""

import inspect
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.by_sample import BySample
from tfp_vae.keras_internals import inputs_by_name
from tfp_vae.samples import as_one_batch
from tfp_vae.substrate import Tensor, tfd

__all__ = ["OverSamples"]


@keras.saving.register_keras_serializable("tfp_vae")
class OverSamples(keras.layers.Wrapper):
    """Lets a network between the parts of a joint distribution see one batch.

    The functions of a `tfd.JointDistribution` are given parents of shape
    `[S, B, *latent]` where S samples are drawn for each example. A `Dense`
    layer takes them; a model of a fixed rank, or a convolution, takes
    `[S * B, ...]`, which this layer gives it.

    Args:
        layer: a layer or model of one tensor, to a distribution or a tensor.
        event_ndims: the dimensions of one z; by default those of the input of a
            functional model, else 1.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, *latent]` or `[S, B, *latent]`.
        training: whether layers such as Dropout are in training.

    Returns:
        What the layer returns, of batch shape `[B]` or `[S, B]`.

    Example:
    ```python
    network = OverSamples(keras.Sequential([
        keras.layers.Dense(64, "relu"), Head(MultivariateNormalDiag(8)),
    ]))
    tfd.JointDistributionNamed({"z2": q2, "z1": lambda z2: network(z2)})
    ```
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        event_ndims: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        self.event_ndims = event_ndims
        # The layer builds itself, in one batch.
        self.built = True

    def _lead(self, inputs: Tensor) -> int:
        ndims = self.event_ndims
        if ndims is None:
            known = inputs_by_name(self.layer)
            ndims = 1
            if known is not None and not isinstance(
                self.layer, keras.Sequential
            ):
                ndims = len(next(iter(known.values())).shape) - 1
        return len(inputs.shape) - ndims

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution | Tensor:
        options = {}
        if "training" in inspect.signature(self.layer.call).parameters:
            options["training"] = training
        lead = self._lead(inputs)
        if lead == 1:
            return self.layer(inputs, **options)
        samples = inputs.shape[0]
        found = self.layer(as_one_batch(inputs), **options)
        if isinstance(found, tfd.Distribution):
            return BySample(found, samples)
        shape = ops.shape(found)
        return ops.reshape(found, (samples, -1, *shape[1:]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "event_ndims": self.event_ndims}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "OverSamples":
        # Keras takes the layer out of the config that it is given.
        return super().from_config(dict(config), custom_objects)
