"""One column of a table: its kind, and its values as numbers and back."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_vae.arguments import check_one_of

__all__ = ["KINDS", "Column", "shown"]

#: What a column may be. Columns of the last two kinds are not in the data.
KINDS = (
    "continuous",
    "positive",
    "count",
    "binary",
    "categorical",
    "constant",
    "drop",
)
_LEFT_OUT = ("constant", "drop")


def shown(values: Sequence[Any], most: int = 5) -> str:
    """Some values for a message.

    Args:
        values: any.
        most: how many to show.

    Returns:
        Their representations, and whether there are more.
    """
    first = ", ".join(repr(plain(value)) for value in list(values)[:most])
    more = len(values) - most
    return f"{first} and {more} more" if more > 0 else first


def plain(value: Any) -> Any:
    """A value of numpy as one of Python, which a config can hold."""
    return value.item() if isinstance(value, np.generic) else value


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    ```none
    continuous    x = (v - shift) / scale
    positive      x = (log v - shift) / scale
    count         x = v
    binary        x = 0 or 1, the place of v in `categories`
    categorical   x = 0, 1, ..., the place of v in `categories`
    constant      not in x; always `value`
    drop          not in x, and does not come back
    ```

    Args:
        name: a string or an int.
        kind: one of the kinds above.
        categories: the two or more values of a binary or categorical column,
            strings, numbers or bools, in the order of their codes; by default 0
            and 1 for a binary column.
        shift: of a continuous or positive column, in its unit or that of its
            logarithm; of a count, the mean of log(1 + v), with which encoders
            standardise it.
        scale: likewise, > 0.
        value: of a constant column.
        dtype: the name of the dtype in which pandas gets it back.
        whole: whether values are rounded to whole numbers on the way back.
        ordered: whether pandas takes the categories as ordered.
        note: why the kind was guessed, and what else it might be.

    Raises:
        TypeError: if the name or the categories are of another type.
        ValueError: if the kind is unknown, there are fewer than two different
            categories, or `scale` is not positive.
    """

    name: str | int
    kind: str
    categories: tuple[Any, ...] | None = None
    shift: float = 0.0
    scale: float = 1.0
    value: Any = None
    dtype: str | None = None
    whole: bool = False
    ordered: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.name, bool) or not isinstance(self.name, (str, int)):
            raise TypeError(
                "The name of a column is a string or an int. Received: "
                f"{self.name!r}. Name it: "
                'df.columns = [" ".join(map(str, c)) for c in df.columns].'
            )
        check_one_of(f"The kind of column {self.name!r}", self.kind, KINDS)
        for field in ("shift", "scale"):
            value = getattr(self, field)
            if not (isinstance(value, numbers.Real) and math.isfinite(value)):
                raise ValueError(
                    f"{field} of a column is a finite number. Received: "
                    f"{value!r} for {self.name!r}."
                )
            object.__setattr__(self, field, float(value))
        if self.scale <= 0:
            raise ValueError(
                "The scale of a column is positive. Received: "
                f"{self.scale} for {self.name!r}. A column that never changes "
                'is of the kind "constant".'
            )
        if self.kind == "count":
            object.__setattr__(self, "whole", True)
        if self.coded:
            self._check_categories()
        elif self.categories is not None:
            raise ValueError(
                "A binary or categorical column has categories, and no other. "
                f"Received: {self.kind!r} with categories for {self.name!r}."
            )

    def _check_categories(self) -> None:
        found = self.categories
        if found is None and self.kind == "binary":
            found = (0, 1)
        categories = tuple(map(plain, found or ()))
        for value in categories:
            if not isinstance(value, (str, bool, int, float)):
                raise TypeError(
                    "Categories are strings, numbers or bools. Received: "
                    f"{value!r} in column {self.name!r}. Turn them into "
                    f"strings: df[{self.name!r}].astype(str)."
                )
        least, most = (2, 2) if self.kind == "binary" else (2, math.inf)
        if (
            not least <= len(categories) <= most
            or len(set(categories)) < len(categories)
            or any(value != value for value in categories)
        ):
            number = "two" if most == 2 else "two or more"
            raise ValueError(
                f"A {self.kind} column has {number} different categories. "
                f"Received: {shown(categories) or 'none'} for {self.name!r}."
            )
        object.__setattr__(self, "categories", categories)

    @property
    def coded(self) -> bool:
        """Whether x is the place of a value in `categories`."""
        return self.kind in ("binary", "categorical")

    @property
    def in_x(self) -> bool:
        """Whether the column is a part of x."""
        return self.kind not in _LEFT_OUT

    def encode(
        self, values: np.ndarray, missing: np.ndarray, unseen: str = "error"
    ) -> np.ndarray:
        """Values as numbers.

        Args:
            values: `[N]`, of any dtype; numbers, unless the column is coded or
                constant.
            missing: `[N]`, bools.
            unseen: `"error"`, or `"missing"` to treat an unknown category as
                missing.

        Returns:
            `[N]`, float64, NaN where missing.

        Raises:
            ValueError: if a value is not an outcome of the column.
        """
        if self.coded:
            return self._codes(values, missing, unseen)
        numbers_ = np.where(missing, np.nan, values).astype("float64")
        observed = numbers_[~missing]
        self._refuse(observed[~np.isfinite(observed)], "finite")
        if self.kind == "positive":
            self._refuse(observed[observed <= 0], "greater than 0")
            numbers_ = np.log(numbers_)
        if self.kind == "count":
            bad = (observed < 0) | (observed != np.floor(observed))
            self._refuse(observed[bad], "0, 1, 2, ...")
            return numbers_
        return (numbers_ - self.shift) / self.scale

    def _refuse(self, bad: np.ndarray, rule: str) -> None:
        if len(bad):
            raise ValueError(
                f"Values of the {self.kind} column {self.name!r} are {rule}. "
                f"Received: {shown(list(dict.fromkeys(bad.tolist())))}. Mend "
                "them, write NaN for what is missing, or take another kind, "
                f"such as kinds={{{self.name!r}: "
                '"continuous"}.'
            )

    def _codes(
        self, values: np.ndarray, missing: np.ndarray, unseen: str
    ) -> np.ndarray:
        assert self.categories is not None
        codes = {value: code for code, value in enumerate(self.categories)}
        found = np.array(
            [
                np.nan if gone else codes.get(plain(value), -1)
                for value, gone in zip(values, missing, strict=True)
            ],
            "float64",
        )
        unknown = found == -1
        if unknown.any() and unseen == "error":
            new = list(dict.fromkeys(plain(v) for v in values[unknown]))
            raise ValueError(
                f"Column {self.name!r} has the categories "
                f"{shown(self.categories)}. Received: {shown(new)}. Mend "
                'them, take them as missing, transform(df, unseen="missing"), '
                "or name all categories before training: "
                f"kinds={{{self.name!r}: [...]}}."
            )
        return np.where(unknown, np.nan, found)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """Numbers as values: the reverse of `encode`.

        Args:
            x: `[N]`; counts and binary codes are rounded, since a mean need not
                be one.

        Returns:
            `[N]`; float64, or objects with None where missing.

        Raises:
            ValueError: if codes of a categorical column are not whole: a mean
                of codes is not a class.
        """
        x = np.asarray(x, "float64")
        if self.coded:
            assert self.categories is not None
            codes = np.rint(x)
            between = x[np.isfinite(x) & (x != codes)]
            if self.kind == "categorical" and len(between):
                raise ValueError(
                    "Codes of classes are whole numbers: a mean of them is no "
                    f"class. Received: {shown(between)} in column "
                    f"{self.name!r}. Give draws, vae.sample(n), what "
                    "vae.impute(data) fills in, or the mode of the likelihood."
                )
            codes = np.clip(codes, 0, len(self.categories) - 1)
            return np.array(
                [
                    None if code != code else self.categories[int(code)]
                    for code in codes
                ],
                dtype=object,
            )
        if self.kind in ("continuous", "positive"):
            x = x * self.scale + self.shift
        if self.kind == "positive":
            x = np.exp(x)
        if not self.whole:
            return x
        least = {"positive": 1.0, "count": 0.0}.get(self.kind, -np.inf)
        return np.maximum(np.rint(x), least)

    def __str__(self) -> str:
        if self.coded:
            assert self.categories is not None
            number = len(self.categories)
            return f"{number} classes: {shown(self.categories)}"
        return {
            "continuous": f"(v - {self.shift:.4g}) / {self.scale:.4g}",
            "positive": f"(log v - {self.shift:.4g}) / {self.scale:.4g}",
            "count": "as it is",
            "constant": f"left out, always {self.value!r}",
            "drop": "left out",
        }[self.kind]
