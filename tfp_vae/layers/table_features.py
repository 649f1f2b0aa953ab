"""The columns of a table as features for a network."""

from typing import Any

import keras
from keras import ops

from tfp_vae.substrate import Tensor
from tfp_vae.tables import TableEncoder

__all__ = ["TableFeatures"]


@keras.saving.register_keras_serializable("tfp_vae")
class TableFeatures(keras.layers.Layer):
    """Rows of a table as features for a network: the first layer of an encoder.

    ```none
    continuous, positive   x                        unchanged: standardised
    count                  (log(1 + x) - shift) / scale
    binary                 -1 or 1
    categorical            one-hot
    ```

    Codes as numbers would mean that class 3 is three times class 1, and a large
    count would dominate the rest. All features of a missing cell are 0, and the
    mask is appended, 1 where observed.

    Args:
        table: the `TableEncoder` that makes x.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: `[..., table.width]`, without NaN: a `VAE` with `missing_values`
            replaces them by 0.
        observed: `[..., table.width]`, 1 where observed and 0 where not; or
            None, if nothing is missing.

    Returns:
        `[..., num_features]`, and with `observed` these and the mask.

    Raises:
        TypeError: if `table` is not a `TableEncoder`.
        ValueError: if x has another width.
    """

    def __init__(self, table: TableEncoder, **kwargs: Any) -> None:
        if kwargs.get("dtype") is None:
            # Half precision would lose counts and codes.
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        if not isinstance(table, TableEncoder):
            raise TypeError(
                "TableFeatures is made of the TableEncoder that x comes from. "
                f"Received: {table!r}."
            )
        self.table = table

    @property
    def num_features(self) -> int:
        """How many features a row has, without the mask."""
        return sum(
            len(c.categories or ()) if c.kind == "categorical" else 1
            for c in self.table.encoded
        )

    def call(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if x.shape[-1] != self.table.width:
            raise ValueError(
                f"Rows of this table are [..., {self.table.width}]. Received: "
                f"shape {tuple(x.shape)}."
            )
        parts = []
        for i, column in enumerate(self.table.encoded):
            part = x[..., i : i + 1]
            if column.kind == "count":
                part = (ops.log1p(part) - column.shift) / column.scale
            elif column.kind == "binary":
                part = 2.0 * part - 1.0
            elif column.kind == "categorical":
                part = ops.one_hot(
                    ops.cast(part[..., 0], "int32"),
                    len(column.categories or ()),
                    dtype=self.compute_dtype,
                )
            if observed is not None:
                part = part * observed[..., i : i + 1]
            parts.append(part)
        if observed is not None:
            parts.append(observed)
        return ops.concatenate(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "table": keras.saving.serialize_keras_object(self.table),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TableFeatures":
        config = dict(config)
        table = keras.saving.deserialize_keras_object(config.pop("table"))
        return cls(table, **config)
