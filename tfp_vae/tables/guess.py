"""The kind of a column of a DataFrame, from its values or from the user."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_vae.arguments import check_one_of
from tfp_vae.tables.column import KINDS, Column, plain, shown

__all__ = ["check_kind_of_dtype", "guess_column", "numbers_of"]

# Up to this many different whole numbers from 1 on may be codes.
_CODES = 12
# More classes than this, or one for each of this many rows, are only names.
_CLASSES = 100
_ROWS = 20


def guess_column(
    series: Any, kind: str | Sequence[Any] | None = None
) -> Column:
    """A column, with the kind that fits its values.

    The first rule that fits decides:

    - nothing observed, or only one value: constant;
    - bools, or two different values: binary;
    - strings or pandas' categories: categorical;
    - up to 12 different whole numbers, the least of them 1 or more: categorical
      (codes);
    - whole numbers, the least of them 0 or 1, the largest up to 1,000: count;
    - any other numbers: continuous.

    Args:
        series: a `pandas.Series` with a name.
        kind: one of `KINDS`, or the categories in the order of their codes; by
            default it is guessed.

    Returns:
        The column, with what is needed to encode and decode it.

    Raises:
        TypeError: if the values are dates, or of a type that no kind fits.
        ValueError: if the values do not fit the kind.
    """
    name = series.name
    dtype = str(series.dtype)
    categories: list[Any] | None = None
    if kind is not None and not isinstance(kind, str):
        categories = list(kind)
        kind = "binary" if len(categories) == 2 else "categorical"
    elif kind is not None:
        check_one_of(f"The kind of column {name!r}", kind, KINDS)
    if kind == "drop":
        return Column(name, "drop", dtype=dtype)
    check_kind_of_dtype(series)
    observed = series.dropna()
    levels = _levels(series, observed)
    note = ""
    if kind is None:
        kind, note = _guess(series, observed, levels)
    column = _with_values(name, kind, categories, series, observed, levels)
    return dataclasses.replace(column, dtype=dtype, note=note)


def check_kind_of_dtype(series: Any) -> None:
    """Refuses dates, durations, and types that are not plain values.

    Args:
        series: a `pandas.Series`.

    Raises:
        TypeError: for these.
    """
    name, dtype = series.name, str(series.dtype)
    if dtype.startswith(("datetime", "period", "timedelta", "date")) or any(
        hasattr(value, "isoformat") for value in series.dropna().head(1)
    ):
        raise TypeError(
            "A date has no zero and no unit for a likelihood. "
            f"Received: column {name!r} of dtype {dtype}. Make a number of it, "
            f"such as (df[{name!r}] - df[{name!r}].min()).dt.days or "
            f"df[{name!r}].dt.month, or leave it out: "
            f'kinds={{{name!r}: "drop"}}.'
        )
    if dtype.startswith(("complex", "interval")):
        raise TypeError(
            "Columns hold numbers, bools, strings or categories. Received: "
            f"column {name!r} of dtype {dtype}. Turn it into one of them, such "
            f"as df[{name!r}].astype(str), or leave it out: "
            f'kinds={{{name!r}: "drop"}}.'
        )


def numbers_of(series: Any) -> np.ndarray:
    """The values of a column as float64, NaN where missing.

    Args:
        series: a `pandas.Series`.

    Returns:
        `[N]`.

    Raises:
        ValueError: if they are not numbers.
    """
    try:
        return series.to_numpy("float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "The values of a continuous, positive or count column are numbers. "
            f"Received: {shown(list(series.dropna().unique()))} in column "
            f"{series.name!r}. Make them numbers, pandas.to_numeric("
            f'df[{series.name!r}], errors="coerce"), or take the kind '
            '"categorical".'
        ) from error


def _levels(series: Any, observed: Any) -> list[Any]:
    """The different values: those that pandas declares, or that occur."""
    if str(series.dtype) == "category":
        return [plain(v) for v in series.cat.categories]
    try:
        levels = [plain(v) for v in observed.unique()]
    except TypeError as error:
        raise TypeError(
            "Columns hold numbers, bools, strings or categories. Received: "
            f"{type(observed.iloc[0]).__name__} in column {series.name!r}. "
            f'Leave it out: kinds={{{series.name!r}: "drop"}}.'
        ) from error
    kinds = {isinstance(v, str) for v in levels}
    if len(kinds) > 1:
        raise TypeError(
            "Values of a column are all numbers, or all strings. Received: "
            f"{shown(sorted(levels, key=lambda v: not isinstance(v, str)))} in "
            f"column {series.name!r}. Write NaN for what is missing, such as "
            'df.replace("?", np.nan), or make all strings: '
            f"df[{series.name!r}].astype(str)."
        )
    return sorted(levels)


def _guess(series: Any, observed: Any, levels: list[Any]) -> tuple[str, str]:
    """The kind, and a note that begins with ? where another kind is likely."""
    name = series.name
    if not len(observed):
        return "constant", "? nothing observed"
    if len(levels) == 1:
        gaps = len(series) - len(observed)
        note = f"? {gaps} gaps become it" if gaps else "one value"
        return "constant", note
    if any(isinstance(v, float) and math.isinf(v) for v in levels):
        return "continuous", "numbers"  # which refuses them
    if len(levels) == 2:
        return "binary", "two values"
    if any(isinstance(v, str) for v in levels) or series.dtype == "category":
        alone = len(levels) == len(observed) > _ROWS
        if len(levels) > _CLASSES or alone:
            raise ValueError(
                "Classes are few, and occur more than once. Received: "
                f"{len(levels)} different values in the {len(observed)} of "
                f"column {name!r}: {shown(levels)}. Leave it out, "
                f'kinds={{{name!r}: "drop"}}; or, if they are classes, '
                f'kinds={{{name!r}: "categorical"}}; or, if they are numbers, '
                f"pandas.to_numeric(df[{name!r}])."
            )
        return "categorical", "names"
    values = numbers_of(observed)
    whole = (values == np.floor(values)).all()
    if whole and values.min() >= 1 and len(levels) <= _CODES:
        return "categorical", "? whole numbers from 1: codes, or a count"
    if whole and values.min() in (0, 1) and values.max() <= 1000:
        if len(levels) <= _CODES:
            return "count", "? few whole numbers: a count, or codes"
        return "count", "whole numbers from 0 or 1"
    if (values > 0).all() and values.max() > 1000 * values.min():
        return "continuous", "? all above 0, of many sizes: or positive"
    return "continuous", "numbers"


def _with_values(
    name: Any,
    kind: str,
    categories: list[Any] | None,
    series: Any,
    observed: Any,
    levels: list[Any],
) -> Column:
    """The column with the numbers that its values give."""
    if kind == "constant":
        if len(levels) > 1:
            raise ValueError(
                "A constant column has one value. Received: "
                f"{shown(levels)} in column {name!r}. Leave it out: "
                f'kinds={{{name!r}: "drop"}}.'
            )
        return Column(name, kind, value=levels[0] if levels else None)
    if kind in ("binary", "categorical"):
        if categories is None:
            categories = _all_categories(kind, levels)
        ordered = str(series.dtype) == "category" and series.cat.ordered
        column = Column(name, kind, tuple(categories), ordered=bool(ordered))
        column.encode(observed.to_numpy(), np.zeros(len(observed), bool))
        return column
    values = numbers_of(observed)
    # Refuses values that are not outcomes of the kind.
    x = Column(name, kind).encode(values, np.zeros(len(values), bool))
    if kind == "count":
        x = np.log1p(x)
    if not len(x) or (kind != "count" and x.min() == x.max()):
        raise ValueError(
            f"A {kind} column has two different values or more, by which it "
            f"is standardised. Received: {shown(levels) or 'nothing observed'} "
            f'in column {name!r}. Take kinds={{{name!r}: "constant"}}.'
        )
    whole = bool((values == np.floor(values)).all())
    scale = float(x.std())
    # A count may be the same in all observed rows.
    return Column(
        name,
        kind,
        shift=x.mean(),
        scale=scale if scale > 0 else 1.0,
        whole=whole,
    )


def _all_categories(kind: str, levels: list[Any]) -> list[Any]:
    """The values; for a binary column with only one value, also the other."""
    for both in ([False, True], [0, 1]):
        if kind == "binary" and len(levels) == 1 and levels[0] in both:
            return [type(levels[0])(v) for v in both]
    return levels
