"""A layer for tables whose columns are of different kinds."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from tfp_vae.distributions import composite
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Composite"]


def _num_parameters(block: Any) -> int:
    if not isinstance(block, DistributionLayer) or not hasattr(
        block, "params_size"
    ):
        raise TypeError(
            "A block of a Composite is a distribution layer with a params_size."
            f" Received: {block!r}."
        )
    return block.num_parameters


@keras.saving.register_keras_serializable("tfp_vae")
class Composite(DistributionLayer):
    """One likelihood for rows of columns of different kinds.

    For tables: some columns real, some counts, some classes. The log-likelihood
    of a row is the sum of those of its blocks, in nats, so no weights are
    needed between kinds of columns. Note that a density depends on the units of
    a column, and a probability does not.

    Args:
        blocks: distribution layers over scalars or vectors, such as
            `IndependentNormal(3)`.
        columns: for each block its columns in a row, an int or ints; by default
            the blocks follow one another.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., params_size]`, the parameters of the first block, then of
            the second, each as it takes them flat.

    Returns:
        `tfp_vae.distributions.Composite` of batch shape `[...]`, event shape
        `[columns]`. Its `mean` is the mean of each column; the mean of class
        numbers says little: take the `mode` for them, or a `OneHotCategorical`
        over several columns. `log_prob_by_block` gives the share of each block.

    Raises:
        TypeError: if a block is not a distribution layer with a `params_size`.
        ValueError: if an event is neither a scalar nor a vector, `columns` are
            not those of the blocks, or the inputs are of the wrong width.

    Example:
    ```python
    # age, smokes, ward (one of 5), weight
    blocks = [
        IndependentNormal(2, scale="shared"),
        IndependentBernoulli(()),
        IndependentCategorical((), num_classes=5),
    ]
    decoder = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(32, "relu"),
        keras.layers.Dense(Composite.params_size(blocks)),
        Composite(blocks, columns=[[0, 3], 1, 2]),
    ])
    ```
    """

    def __init__(
        self,
        blocks: Sequence[DistributionLayer],
        columns: Sequence[int | Sequence[int]] | None = None,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        sizes = [_num_parameters(block) for block in blocks]
        for block in blocks:
            if len(block.event_shape) > 1:
                raise ValueError(
                    "A block of a Composite is a layer over scalars or "
                    f"vectors. Received: {type(block).__name__} over "
                    f"{block.event_shape}."
                )
        widths = [math.prod(block.event_shape) for block in blocks]
        super().__init__(sum(widths), convert_to_tensor_fn, **kwargs)
        self.blocks = list(blocks)
        self._sizes = sizes
        self.columns = composite.check_columns(columns, widths)

    @staticmethod
    def params_size(blocks: Sequence[DistributionLayer]) -> int:
        """How many parameters the blocks take together.

        Args:
            blocks: the layers, as the constructor takes them.

        Returns:
            The width of the layer before.
        """
        return sum(map(_num_parameters, blocks))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)
        for block, size in zip(self.blocks, self._sizes, strict=True):
            # A block that is loaded comes built.
            if not block.built:
                block.build((*input_shape[:-1], size))

    def width_of_other_modes(self, input_shape: tuple[int | None, ...]) -> str:
        *batch, width = input_shape
        if width is None:
            return ""
        for block, size in zip(self.blocks, self._sizes, strict=True):
            # As if the width of the other blocks were right.
            shape = (*batch, width - sum(self._sizes) + size)
            if found := block.width_of_other_modes(shape):
                return found
        return ""

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        bounds = pairwise([0, *np.cumsum(self._sizes)])
        return composite.Composite(
            [
                block(params[..., start:end])
                for block, (start, end) in zip(self.blocks, bounds, strict=True)
            ],
            columns=self.columns,
            dtype=self.compute_dtype,
        )

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        # With `training` in the signature Keras passes it on to the blocks.
        return super().call(inputs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["event_shape"]
        return {
            **config,
            "blocks": [
                keras.saving.serialize_keras_object(block)
                for block in self.blocks
            ],
            "columns": self.columns,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Composite":
        config = dict(config)
        blocks = [
            keras.saving.deserialize_keras_object(block)
            for block in config.pop("blocks")
        ]
        return cls(blocks, **config)
