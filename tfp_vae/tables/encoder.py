"""A table with named columns as arrays for a model, and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfp_vae.arguments import check_one_of
from tfp_vae.keras_internals import all_layers
from tfp_vae.tables.column import Column, shown
from tfp_vae.tables.guess import check_kind_of_dtype, guess_column, numbers_of
from tfp_vae.warn import warn_user

__all__ = ["TableEncoder"]


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "DataFrames are those of pandas, which is not installed: "
            'pip install "tfp-vae[tables]".'
        ) from error
    return pandas


@keras.saving.register_keras_serializable("tfp_vae")
class TableEncoder:
    """Turns a DataFrame into the arrays that a model takes, and back.

    Continuous columns are standardised, categories become their codes 0, 1,
    ..., counts stay unchanged, and missing values are NaN. Constant columns are
    not in the arrays, and come back unchanged.

    It is saved with the model whose likelihood is
    `Composite.from_columns(table)`, and `TableEncoder.of(model)` finds it
    there.

    Args:
        columns: `Column`s, or a mapping of names to kinds (see `Column`), where
            a sequence of categories stands for a binary or categorical column.
            `from_dataframe` finds them from a DataFrame.

    Raises:
        TypeError: if they are neither of these.
        ValueError: if no column is in the arrays, or two have the same name.

    Example:
    ```python
    table = TableEncoder.from_dataframe(df, kinds={"ward": "categorical"})
    data = table.transform(df)          # {"x": [N, table.width]}
    ...
    table.inverse_transform(vae.sample(100))
    ```
    """

    def __init__(
        self, columns: Sequence[Column] | Mapping[Any, str | Sequence[Any]]
    ) -> None:
        if isinstance(columns, Mapping):
            columns = [_column(name, kind) for name, kind in columns.items()]
        self.columns = tuple(columns)
        for column in self.columns:
            if not isinstance(column, Column):
                raise TypeError(
                    "A table is made of Columns, or of a mapping of names to "
                    f"kinds. Received: {column!r}. Of a DataFrame, take "
                    "TableEncoder.from_dataframe(df)."
                )
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            twice = sorted({str(n) for n in names if names.count(n) > 1})
            raise ValueError(
                "Each column of a table has a name of its own. Received twice: "
                f"{shown(twice)}. Rename one, or drop it."
            )
        if not self.width:
            raise ValueError(
                "A table has one column or more that changes. Received: "
                f"{shown([(c.name, c.kind) for c in self.columns]) or 'none'}."
            )

    @classmethod
    def from_dataframe(
        cls,
        df: Any,
        kinds: Mapping[Any, str | Sequence[Any]] | None = None,
        verbose: bool = True,
    ) -> "TableEncoder":
        """A table of the columns of a DataFrame.

        The rules of the guess are those of `guess_column`.

        Args:
            df: a `pandas.DataFrame`, with gaps or without: the training data.
            kinds: for columns whose kind is known, from their names to one of
                `KINDS`, or to the categories in the order of their codes.
            verbose: whether to print the table, if a kind was guessed.

        Returns:
            The table. A kind that may be wrong is marked with a ?.

        Raises:
            ImportError: if pandas is not installed.
            TypeError: if `df` is not a DataFrame, or a column has dates or
                values of a type that no kind fits.
            ValueError: if there are no rows, two columns have the same name,
                `kinds` has names that `df` lacks, or values do not fit their
                kind.
        """
        _check_dataframe(df)
        kinds = dict(kinds or {})
        unknown = [name for name in kinds if name not in df.columns]
        if unknown:
            raise ValueError(
                "kinds names columns of the DataFrame. Received: "
                f"{shown(unknown)}. It has {shown(list(df.columns), 20)}."
            )
        table = cls([guess_column(df[c], kinds.get(c)) for c in df.columns])
        if verbose and len(kinds) < len(table.columns):
            print(table)
        return table

    @classmethod
    def of(cls, model: keras.Model) -> "TableEncoder":
        """The table that was saved with a model.

        Args:
            model: one with a `Composite.from_columns(...)` in it.

        Returns:
            The table from which its likelihood was made.

        Raises:
            ValueError: if there is none.
        """
        for layer in all_layers(model):
            table = getattr(layer, "table", None)
            if isinstance(table, cls):
                return table
        raise ValueError(
            "A model has a table if its likelihood is a "
            "Composite.from_columns(table). Received: "
            f"{type(model).__name__} {model.name!r} without one."
        )

    @property
    def names(self) -> list[str | int]:
        """The names of all columns that come back, in their order."""
        return [c.name for c in self.columns if c.kind != "drop"]

    @property
    def encoded(self) -> list[Column]:
        """The columns of x, in their order."""
        return [c for c in self.columns if c.in_x]

    @property
    def width(self) -> int:
        """How many columns x has."""
        return len(self.encoded)

    def transform(
        self, df: Any, unseen: str = "error"
    ) -> dict[str, np.ndarray]:
        """A DataFrame as the data of a model.

        Columns are found by their names, in any order. Columns that the table
        does not know are left out, with a warning.

        Args:
            df: a `pandas.DataFrame`.
            unseen: `"error"`, or `"missing"` to treat unseen values as missing:
                new categories, another value in a constant column.

        Returns:
            `{"x": [N, width]}`, float32, NaN where missing.

        Raises:
            ImportError: if pandas is not installed.
            TypeError: if `df` is not a DataFrame.
            ValueError: if columns are missing, or a value is not an outcome of
                its column.
        """
        _check_dataframe(df)
        check_one_of("unseen", unseen, ("error", "missing"))
        lacking = [c.name for c in self.columns if self._needs(c, df)]
        if lacking:
            raise ValueError(
                "A DataFrame has the columns from which the table was made. "
                f"Received: none called {shown(lacking, 20)}. If nothing is "
                "known of them: "
                f"df.assign(**{{{str(lacking[0])!r}: np.nan}})."
            )
        known = [c.name for c in self.columns]
        extra = [name for name in df.columns if name not in known]
        if extra:
            warn_user(
                "Columns that the table does not know are left out. Received: "
                f"{shown(extra, 20)}. Drop them, or make a new table."
            )
        x = np.empty((len(df), self.width), "float32")
        place = 0
        for column in self.columns:
            if column.kind == "constant" and column.name in df:
                _check_constant(column, df[column.name], unseen)
            if column.in_x:
                x[:, place] = _encoded(column, df[column.name], unseen)
                place += 1
        return {"x": x}

    @staticmethod
    def _needs(column: Column, df: Any) -> bool:
        return column.in_x and column.name not in df.columns

    def inverse_transform(self, x: Any, original: Any = None) -> Any:
        """Arrays as a DataFrame: the reverse of `transform`.

        Counts and binary codes are rounded: a mean may lie between them.

        Args:
            x: `[N, width]`, or a dict with it as `"x"`; or `[m, N, width]`, m
                draws.
            original: the DataFrame whose gaps were filled, of N rows. Its
                observed cells and its index are kept unchanged.

        Returns:
            A `pandas.DataFrame` of all columns except dropped ones, in their
            original dtypes where no gaps are left. m draws are stacked one
            below the other, with an index level `"draw"`.

        Raises:
            ImportError: if pandas is not installed.
            ValueError: if x has another width, classes are not whole numbers
                (as of a mean), or `original` has other rows or columns.
        """
        pandas = _pandas()
        x = keras.ops.convert_to_numpy(x["x"] if isinstance(x, dict) else x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.width:
            raise ValueError(
                f"The data of this table are [N, {self.width}], or m draws of "
                f"it. Received: shape {x.shape}."
            )
        if x.ndim == 3:
            draws = [self.inverse_transform(draw, original) for draw in x]
            return pandas.concat(draws, keys=range(len(x)), names=["draw"])
        if original is not None:
            self._check_original(original, len(x))
        parts = {}
        place = 0
        for column in self.columns:
            if column.kind == "drop":
                continue
            values = np.full(len(x), column.value, dtype=object)
            if column.in_x:
                values = _within(column, column.decode(x[:, place]), pandas)
                place += 1
            series = pandas.Series(values)
            if original is not None:
                series.index = original.index
            if original is not None and column.name in original:
                kept = original[column.name]
                series = series.astype(object).where(
                    kept.isna(), kept.astype(object)
                )
            parts[column.name] = _as_it_was(series, column, pandas)
        return pandas.DataFrame(parts)

    def _check_original(self, original: Any, rows: int) -> None:
        _check_dataframe(original)
        lacking = [c.name for c in self.columns if self._needs(c, original)]
        if len(original) != rows or lacking:
            raise ValueError(
                "original is the DataFrame that was transformed, of "
                f"{rows} rows. Received: {len(original)} rows"
                + (f", without {shown(lacking)}." if lacking else ".")
            )

    def __str__(self) -> str:
        rows = [("column", "kind", "in x", "")]
        for c in self.columns:
            doubt = " ?" if c.note.startswith("?") else ""
            rows.append(
                (str(c.name), c.kind + doubt, str(c), c.note.removeprefix("? "))
            )
        wide = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join(
                [*(t.ljust(w) for t, w in zip(row, wide, strict=False)), row[3]]
            ).rstrip()
            for row in rows
        ]
        if any(c.note.startswith("?") for c in self.columns):
            lines.append('? may be wrong: say it, kinds={"column": "kind"}')
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"TableEncoder({list(self.columns)!r})"

    def get_config(self) -> dict[str, Any]:
        """The columns, as Keras saves them."""
        return {"columns": [dataclasses.asdict(c) for c in self.columns]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TableEncoder":
        """A table from the result of `get_config`."""
        columns = []
        for fields in config["columns"]:
            fields = dict(fields)
            if fields["categories"] is not None:
                fields["categories"] = tuple(fields["categories"])
            columns.append(Column(**fields))
        return cls(columns)


def _column(name: Any, kind: str | Sequence[Any]) -> Column:
    if isinstance(kind, str):
        return Column(name, kind)
    return Column(
        name, "binary" if len(kind) == 2 else "categorical", tuple(kind)
    )


def _check_dataframe(df: Any) -> None:
    pandas = _pandas()
    if not isinstance(df, pandas.DataFrame):
        raise TypeError(
            "A table is a pandas.DataFrame. Received: "
            f"{type(df).__name__}. Make one: pandas.DataFrame(values, "
            "columns=[...])."
        )
    if not len(df):
        raise ValueError("A table has rows. Received: a DataFrame of none.")
    if not df.columns.is_unique:
        twice = list(df.columns[df.columns.duplicated()])
        raise ValueError(
            "Each column of a table has a name of its own. Received twice: "
            f"{shown(twice)}. Rename one, or drop it."
        )


def _encoded(column: Column, series: Any, unseen: str) -> np.ndarray:
    missing = series.isna().to_numpy(bool)
    if not missing.all():
        check_kind_of_dtype(series)
    values = (
        series.to_numpy(dtype=object) if column.coded else numbers_of(series)
    )
    return column.encode(values, missing, unseen)


def _check_constant(column: Column, series: Any, unseen: str) -> None:
    other = [v for v in series.dropna().unique() if v != column.value]
    if other and unseen == "error":
        raise ValueError(
            f"Column {column.name!r} was {column.value!r} in all rows that the "
            f"table was made of. Received: {shown(other)}, about which the "
            "model knows nothing. Set it aside, or take it as missing: "
            'transform(df, unseen="missing").'
        )


def _within(column: Column, values: np.ndarray, pandas: Any) -> np.ndarray:
    """Numbers that the dtype of an integer column can hold."""
    if column.dtype in (None, "category") or column.coded:
        return values
    kind = pandas.api.types.pandas_dtype(column.dtype)
    kind = getattr(kind, "numpy_dtype", kind)
    if kind.kind not in "iu":
        return values
    limits = np.iinfo(kind)
    most = float(limits.max)
    # The largest 64-bit integer is not a float: the next float is too large.
    if most > limits.max:
        most = np.nextafter(most, 0.0)
    return np.clip(values, float(limits.min), most)


def _as_it_was(series: Any, column: Column, pandas: Any) -> Any:
    """The series in the dtype of the column, if nothing is missing."""
    dtype = column.dtype
    if column.coded and dtype == "category":
        if not series.dropna().isin(column.categories).all():
            return series  # cells of `original` that were treated as missing
        return series.astype(
            pandas.CategoricalDtype(column.categories, ordered=column.ordered)
        )
    if dtype is None or dtype == "category":
        return series.infer_objects()
    kind = pandas.api.types.pandas_dtype(dtype)
    is_numpy = not pandas.api.types.is_extension_array_dtype(kind)
    if is_numpy and series.isna().any():
        # A numpy column of integers or bools cannot hold a gap.
        return series.infer_objects()
    if kind.kind in "iu" and series.dtype == object:
        # Together with floats, large integers would be rounded.
        series = series.map(_as_integer)
    return series.astype(dtype)


def _as_integer(value: Any) -> Any:
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value
