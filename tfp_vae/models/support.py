"""Whether data lie in the support of a likelihood, and where they do not."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.checks import in_dtype_of
from tfp_vae.distributions.observed import complete
from tfp_vae.distributions.validated import validated
from tfp_vae.samples import copies
from tfp_vae.substrate import Tensor, is_discrete, tfd
from tfp_vae.training.data import Seen, as_keras_would, first_fractional_row

__all__ = ["Support", "between", "first_fault", "unscaled"]

# Rows that go through the likelihood at once: as many as `look` returns, so
# that nothing is compiled for another number.
_ROWS = 4

# Up to this many columns of a likelihood that is not a product over its
# columns, the extremes of each column are tried.
_FEW_COLUMNS = 32

# Whole numbers above this are unscaled levels or amounts.
_LARGE = 100


@dataclasses.dataclass(frozen=True)
class _Block:
    """Columns of the flat event that have a distribution of their own.

    Attributes:
        columns: their numbers.
        is_product: whether the support is a product over the columns.
        discrete: whether the outcomes are whole numbers.
    """

    columns: np.ndarray
    is_product: bool
    discrete: bool


def _is_product(distribution: tfd.Distribution) -> bool:
    """Whether values of columns may be combined from several rows."""
    if not tuple(distribution.event_shape):
        return True
    if isinstance(distribution, tfd.Independent):
        return _is_product(distribution.distribution)
    if isinstance(distribution, tfd.MixtureSameFamily):
        return _is_product(distribution.components_distribution)
    return False


class Support:
    """Tests whether a likelihood of four rows takes other rows."""

    def __init__(
        self, likelihood: tfd.Distribution, samples: int, target: Seen
    ) -> None:
        self.likelihood = likelihood
        self.target = target
        self._samples = samples
        width = target.low.size
        columns: Any = [range(width)]
        inside = complete(likelihood)
        parts = [inside]
        if hasattr(inside, "log_prob_by_block"):
            columns, parts = inside.columns, inside.distributions
        self.blocks = [
            _Block(np.array(c), _is_product(part), is_discrete(part))
            for c, part in zip(columns, parts, strict=True)
        ]
        self._discrete = np.zeros(width, bool)
        for block in self.blocks:
            self._discrete[block.columns] = block.discrete
        # A user's own discrete likelihood may not be marked as discrete.
        self._rounded = (
            self._discrete if self._discrete.any() else ~self._discrete
        )

    @property
    def continuous(self) -> np.ndarray:
        """The columns whose outcomes are not whole numbers."""
        return np.flatnonzero(~self._discrete)

    def fault(self, rows: np.ndarray) -> str | None:
        """What is wrong with up to four rows of columns, or None."""
        rows = np.resize(rows, (_ROWS, rows.shape[-1]))
        rows = self.target.marked(rows)
        rows = rows.reshape(_ROWS, *self.target.array.shape[1:])
        tensor = ops.convert_to_tensor(as_keras_would(rows))
        tensor = copies(tensor, self._samples)
        return _fault(self.likelihood, in_dtype_of(self.likelihood, tensor))

    def is_outside(self, rows: np.ndarray) -> bool:
        """Whether the values are outside the support even when rounded."""
        fault = self.fault(rows)
        if fault is None or rows.dtype.kind in "iub":
            return fault is not None
        return any(
            self.fault(np.where(self._rounded, whole(rows), rows)) is not None
            for whole in (np.floor, np.ceil)
        )


# Where the values of a block come from: a row, or the extremes of each column.
_Source = int | str


def _sources(block: _Block, target: Seen) -> list[_Source]:
    """Where to find the values that test the support of a block.

    A support is an interval, or its whole numbers, for each column; or there is
    a constraint on a sum, such as that of a one-hot vector.
    """
    found: list[_Source] = ["low", "high"]
    if not block.is_product:
        found = [*_rows_of_extremes(block.columns, target)]
    every = len(block.columns) == target.low.size
    if block.discrete:
        row = first_fractional_row(
            target.array, None if every else block.columns
        )
        found += [] if row is None else [row]
    return found


def _rows_of_extremes(columns: np.ndarray, target: Seen) -> list[int]:
    """The rows of the extreme sums, and, for few columns, of each extreme."""
    values = target.numbers(target.array).reshape(len(target.array), -1)
    if len(columns) < values.shape[1]:
        values = values[:, columns]
    low = high = values
    if target.missing is not None:
        low, high = (np.nan_to_num(values, nan=n) for n in (np.inf, -np.inf))
        values = np.nan_to_num(values, nan=0.0)
    sums = values.sum(axis=1)
    rows = [int(sums.argmin()), int(sums.argmax())]
    if len(columns) <= _FEW_COLUMNS:
        rows += [*low.argmin(axis=0), *high.argmax(axis=0)]
    return [int(row) for row in dict.fromkeys(rows)]


def _values(source: _Source, target: Seen) -> np.ndarray:
    if isinstance(source, str):
        return target.low if source == "low" else target.high
    return target.flat([source])[0]


def _probes(
    support: Support,
) -> Iterator[tuple[np.ndarray, list[_Source]]]:
    """Rows that contain all test values of every block, and their sources."""
    target = support.target
    of_blocks = [_sources(block, target) for block in support.blocks]
    for i in range(max(map(len, of_blocks))):
        sources = [found[min(i, len(found) - 1)] for found in of_blocks]
        row = np.empty_like(target.low)
        for block, source in zip(support.blocks, sources, strict=True):
            row[block.columns] = _values(source, target)[block.columns]
        yield row, sources


def first_fault(
    support: Support,
    target: Seen,
    likelihood_of: Callable[[Any], tfd.Distribution],
) -> str | None:
    """Refuses data to which the likelihood gives no density.

    There are two tests: the likelihood's own `validate_args` assertions, and a
    finite log density. Four rows are tested on their own likelihood. The others
    are tested on these four likelihoods, by rows combined from the test values
    of all; a row that fails there must fail on its own likelihood too.

    Values between two outcomes of a discrete likelihood, such as grey levels
    for a Bernoulli, are accepted, since people do this on purpose.

    Returns:
        What is wrong with such values, or None.

    Raises:
        ValueError: if a row is outside the support.
    """

    def own(row: int) -> Support:
        return Support(likelihood_of([row] * _ROWS), support._samples, target)

    def refuse(row: int, support: Support, base: np.ndarray) -> None:
        values = target.flat([row])[0]
        place = _columns_at_fault(support, values, base)
        raise ValueError(_outside(support, row, place))

    rows = target.flat(target.rows)
    fault = support.fault(rows)
    if fault is not None and support.is_outside(rows):
        for row in dict.fromkeys(map(int, target.rows)):
            alone = own(row)
            if alone.is_outside(target.flat([row])):
                others = [r for r in rows if not alone.is_outside(r)]
                refuse(row, alone, others[0] if others else rows[0])
        raise ValueError(_outside(support, None, None))
    probes = [*_probes(support)]
    for start in range(0, len(probes), _ROWS):
        some = probes[start : start + _ROWS]
        if support.fault(np.stack([row for row, _ in some])) is None:
            continue
        for values, sources in some:
            if not support.is_outside(values):
                fault = fault or support.fault(values)
                continue
            columns = _columns_at_fault(support, values, rows[0])
            if columns is None:
                continue
            row = _row_of(support, sources, values, columns)
            alone = own(row)
            if alone.is_outside(target.flat([row])):
                refuse(row, alone, rows[0])
    return fault


def _columns_at_fault(
    support: Support, values: np.ndarray, base: np.ndarray
) -> np.ndarray | None:
    """The columns of a row that are at fault, found by bisection.

    Args:
        support: of the likelihood.
        values: a row with a fault.
        base: a row without one.

    Returns:
        A column; several for a block that is not a product; None if `base` has
        a fault as well.
    """
    units: list[np.ndarray] = []
    for block in support.blocks:
        units += (
            [*block.columns[:, None]] if block.is_product else [block.columns]
        )
    if support.is_outside(base):
        return None
    while len(units) > 1:
        half = units[: len(units) // 2]
        mixed = np.array(base)
        columns = np.concatenate(half)
        mixed[columns] = values[columns]
        units = half if support.is_outside(mixed) else units[len(half) :]
    return units[0]


def _row_of(
    support: Support,
    sources: list[_Source],
    values: np.ndarray,
    columns: np.ndarray,
) -> int:
    """The first row of the data with the values at fault."""
    for block, source in zip(support.blocks, sources, strict=True):
        if columns[0] in block.columns and not isinstance(source, str):
            return source
    column = int(columns[0])
    same = support.target.column(column) == values[column]
    return int(np.argmax(same))


def _place(target: Seen, row: int, columns: np.ndarray | None) -> str:
    event = target.array.shape[1:]
    values = target.flat([row])[0]
    if columns is None or not event or len(columns) == values.size > 1:
        return f"row {row}"
    if len(columns) > 1:
        return f"row {row}, columns {columns.tolist()}"
    column = int(columns[0])
    where = f"column {column}"
    if len(event) > 1:
        index = tuple(int(i) for i in np.unravel_index(column, event))
        where = f"index {index}"
    return f"row {row}, {where} ({values[column]})"


def _range(target: Seen) -> str:
    low, high = np.fmin.reduce(target.low), np.fmax.reduce(target.high)
    return f"values from {low} to {high}"


def _outside(
    support: Support, row: int | None, columns: np.ndarray | None
) -> str:
    """The error for a row outside the support."""
    target = support.target
    at, rows = "", target.flat(target.rows)
    if row is not None:
        at = f"{_place(target, row, columns)} of "
        rows = target.flat([row])
    return (
        "All data must lie in the support of the likelihood. Received: "
        f"{at}{_range(target)} for {support.likelihood.name}, which answers: "
        f"{support.fault(rows)}. Rescale the data, or choose a likelihood that "
        "is made for them."
    )


def between(support: Support, fault: str | None) -> str | None:
    """The warning of values between two outcomes."""
    if fault is None:
        return None
    return (
        f"{support.likelihood.name} has whole numbers as outcomes, but the "
        f"data have values between them ({_range(support.target)}): log_prob "
        "is then a cross-entropy and not the logarithm of a probability, and "
        "the ELBO is not a bound. Undo the rescaling of data that were "
        "whole numbers, binarise them, (x > 0.5).astype(x.dtype), or take "
        "a likelihood for grey levels, such as IndependentNormal or "
        "IndependentHuber."
    )


def unscaled(support: Support) -> str | None:
    """The warning of large whole numbers for a continuous likelihood."""
    target, columns = support.target, support.continuous
    if target.array.dtype.kind not in "iu" or not columns.size:
        return None
    low = np.fmin.reduce(target.low[columns])
    high = np.fmax.reduce(target.high[columns])
    if np.isnan(low) or max(-int(low), int(high)) <= _LARGE:
        return None
    return (
        f"{support.likelihood.name} is continuous and starts near 0 with a "
        f"scale near 1, but the data are integers from {int(low)} to "
        f"{int(high)}: training will be slow or fail. Scale them, such as "
        "x / 255 for the levels of an image, or (x - x.mean(axis=0)) / "
        "x.std(axis=0); or take a likelihood of counts or levels, such as "
        "IndependentPoisson or DiscretizedLogistic."
    )


def _fault(likelihood: tfd.Distribution, target: Tensor) -> str | None:
    """What is wrong with the data, in the likelihood's own words, or None."""
    try:
        # The warnings of TFP while it validates are not about the data.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log_prob = validated(likelihood).log_prob(target)
    # Each backend has its own kind of error for an assertion that fails.
    except Exception as error:
        message = getattr(error, "message", None) or str(error)
        return " ".join(message.split())[:300]
    log_prob = ops.convert_to_numpy(log_prob)
    if np.isfinite(log_prob).all():
        return None
    return f"a log density of {log_prob[~np.isfinite(log_prob)].flat[0]}"
