"""A layer for tables whose columns are of different kinds."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from tfp_vae.distributions import composite
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.layers.heads.table_blocks import Likelihood, table_blocks
from tfp_vae.substrate import Tensor, tfd
from tfp_vae.tables import TableEncoder

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


def _default_name(block: Any) -> str:
    """The name of a layer, without the number that Keras added."""
    name = getattr(block, "name", "")
    bare = name.rstrip("0123456789").rstrip("_")
    is_keras_own = bare.replace("_", "") == type(block).__name__.lower()
    return bare if is_keras_own else name


@keras.saving.register_keras_serializable("tfp_vae")
class Composite(DistributionLayer):
    """One likelihood for rows of columns of different kinds.

    For tables: some columns real, some counts, some classes. The log-likelihood
    of a row is the sum over its blocks, in nats, so no weights are needed
    between kinds of columns. Note that a density depends on the units of a
    column; a probability does not.

    Args:
        blocks: distribution layers over scalars or vectors, such as
            `IndependentNormal(3)`; a list, or a dict by name.
        columns: for each block its columns in a row, an int or ints; by default
            consecutive columns.
        names: of the blocks in a list; by default those of the layers, without
            Keras' numbers, and numbered where two are the same.
        convert_to_tensor_fn: see `DistributionLayer`.
        table: the `TableEncoder` that makes the rows, which is saved with the
            layer; see `from_columns`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., params_size]`, the flat parameters of the first block,
            then those of the second, and so on.

    Returns:
        `tfp_vae.distributions.Composite` of batch shape `[...]`, event shape
        `[columns]`. Its `mean` is the mean of each column; the mean of class
        numbers says little: take the `mode` for them, or a `OneHotCategorical`
        over several columns. `log_prob_by_block` gives the share of each block,
        by its name.

    Raises:
        TypeError: if a block is not a distribution layer with a `params_size`.
        ValueError: if an event is neither a scalar nor a vector, `columns` do
            not fit the blocks, names are not strings or not unique, or the
            inputs are of the wrong width.

    Example:
    ```python
    # age, smokes, ward (one of 5), weight
    blocks = {
        "body": IndependentNormal(2, scale="shared"),
        "smokes": IndependentBernoulli(()),
        "ward": IndependentCategorical((), num_classes=5),
    }
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
        blocks: Sequence[DistributionLayer] | Mapping[str, DistributionLayer],
        columns: Sequence[int | Sequence[int]] | None = None,
        names: Sequence[str] | None = None,
        convert_to_tensor_fn: Any = None,
        table: TableEncoder | None = None,
        **kwargs: Any,
    ) -> None:
        blocks, found = composite.named_blocks(blocks, names, _default_name)
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
        self.blocks = blocks
        self.names = found
        self._sizes = sizes
        self.columns = composite.check_columns(columns, widths)
        self.table = table

    @classmethod
    def from_columns(
        cls,
        columns: Any,
        kinds: Mapping[Any, str | Sequence[Any]] | None = None,
        continuous: Likelihood = "normal",
        count: Likelihood = "negative_binomial",
        likelihoods: Mapping[Any, Likelihood] | None = None,
        verbose: bool = True,
        **kwargs: Any,
    ) -> "Composite":
        """The likelihood of a table of named columns.

        Continuous and positive columns are standardised by the table, and the
        floor of their scale is a hundredth of their spread. Binary columns are
        Bernoulli variables, categorical ones the number of their class. Columns
        of the same likelihood share a block.

        Args:
            columns: a `TableEncoder`, or what one is made from: a
                `pandas.DataFrame`, a mapping of names to kinds, or `Column`s.
                The layer keeps the encoder as its attribute `table`.
            kinds: for a DataFrame, the kinds of columns that are known; the
                others are guessed.
            continuous: the likelihood of continuous and positive columns:
                `"normal"`, `"huber"`, `"student_t"`, `"laplace"` or
                `"barron"`; or a function from a number of columns to a layer
                over them, such as the class of the layer.
            count: the likelihood of counts: `"negative_binomial"`, `"poisson"`,
                or either with `"zero_inflated_"` before it; or a function.
            likelihoods: names of columns to likelihoods that differ from these.
            verbose: whether to print the kinds, if some were guessed.
            **kwargs: of `keras.layers.Layer`.

        Returns:
            The layer, over `[table.width]`.

        Raises:
            ImportError: if pandas is not installed and `columns` is a
                DataFrame.
            TypeError, ValueError: if columns, kinds or likelihoods do not fit;
                see `TableEncoder`.

        Example:
        ```python
        head = Composite.from_columns(
            {"age": "continuous", "visits": "count", "ward": ["A", "B", "C"]},
            continuous="huber",
        )
        decoder = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(32, "relu"), Head(head)]
        )
        head.table.transform(df)  # {"x": [N, 3]}
        ```
        """
        if hasattr(columns, "dtypes"):
            table = TableEncoder.from_dataframe(columns, kinds, verbose)
        elif kinds is not None:
            raise ValueError(
                "kinds are those of a DataFrame's columns. Received: kinds "
                f"beside a {type(columns).__name__}, which has its own."
            )
        elif isinstance(columns, TableEncoder):
            table = columns
        else:
            table = TableEncoder(columns)
        blocks, places = table_blocks(table, continuous, count, likelihoods)
        return cls(blocks, places, table=table, **kwargs)

    @staticmethod
    def params_size(
        blocks: Sequence[DistributionLayer] | Mapping[str, DistributionLayer],
    ) -> int:
        """How many parameters the blocks take together.

        Args:
            blocks: the layers, as the constructor takes them.

        Returns:
            The width of the layer before.
        """
        if isinstance(blocks, Mapping):
            blocks = list(blocks.values())
        return sum(map(_num_parameters, blocks))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)
        for block, size in zip(self.blocks, self._sizes, strict=True):
            # A loaded block is built already.
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
            names=self.names,
        )

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        # Keras passes `training` to the blocks, since it is in the signature.
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
            "names": self.names,
            "table": keras.saving.serialize_keras_object(self.table),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Composite":
        config = dict(config)
        blocks = [
            keras.saving.deserialize_keras_object(block)
            for block in config.pop("blocks")
        ]
        table = keras.saving.deserialize_keras_object(config.pop("table", None))
        return cls(blocks, table=table, **config)
