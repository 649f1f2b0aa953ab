"""A row of a table: columns of different kinds, in one distribution."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.factors import log_prob_by_element
from tfp_vae.distributions.kl import kl_divergence
from tfp_vae.distributions.validated import validated
from tfp_vae.substrate import (
    Tensor,
    dtype_util,
    parameter_properties,
    ps,
    samplers,
    tfb,
    tfd,
)

__all__ = ["Composite", "check_columns", "named_blocks"]


def named_blocks(
    blocks: Any,
    names: Sequence[str] | None,
    default_name: Callable[[Any], str],
) -> tuple[list[Any], tuple[str, ...]]:
    """The blocks and their names, which must be unique.

    Args:
        blocks: a sequence, or a dict by name.
        names: of a sequence, or None for default ones.
        default_name: gives the name of a block. The second block of a name gets
            `name_1`.

    Returns:
        The blocks, and as many strings.

    Raises:
        ValueError: if names are not strings, not as many as the blocks, or
            given twice.
    """
    if isinstance(blocks, Mapping):
        if names is not None:
            raise ValueError(
                "A dict of blocks has their names as its keys. Received: "
                f"names={names!r} as well. Leave out `names`."
            )
        blocks, names = list(blocks.values()), tuple(blocks)
    blocks = list(blocks)
    if names is None:
        found: list[str] = []
        for name in map(default_name, blocks):
            numbered = (f"{name}_{i}" for i in itertools.count(1))
            wanted = itertools.chain([name], numbered)
            found.append(next(n for n in wanted if n not in found))
        return blocks, tuple(found)
    names = tuple(names)
    if (
        len(names) != len(blocks)
        or len({*names}) != len(names)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            "The names of blocks are strings, a different one for each block. "
            f"Received: {names!r} for {len(blocks)} blocks."
        )
    return blocks, names


def check_columns(
    columns: Sequence[int | Sequence[int]] | None, sizes: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """The columns of each block, if each column belongs to exactly one.

    Args:
        columns: the columns of each block, an int or ints; None for consecutive
            columns.
        sizes: how many columns each block has.

    Returns:
        A tuple of ints for each block.

    Raises:
        ValueError: if the columns are not 0, 1, ... in some order, or not as
            many as the blocks have.
    """
    if columns is None:
        ends = np.cumsum(sizes)
        return tuple(
            tuple(range(int(end) - size, int(end)))
            for size, end in zip(sizes, ends, strict=True)
        )
    found = tuple(
        tuple(int(c) for c in np.atleast_1d(block)) for block in columns
    )
    every = sorted(c for block in found for c in block)
    if [*map(len, found)] != [*sizes] or every != [*range(sum(sizes))]:
        raise ValueError(
            "`columns` gives each block as many columns as it has, and each "
            f"column from 0 to {sum(sizes) - 1} to one block. Received: "
            f"columns={columns!r} for blocks of {list(sizes)} columns."
        )
    return found


def _size(distribution: tfd.Distribution) -> int:
    """The columns of a block."""
    event = tuple(distribution.event_shape)
    if len(event) > 1 or None in event:
        raise ValueError(
            "A block of a Composite is a distribution over scalars or over "
            f"vectors of known size. Received: event shape {event} "
            f"({distribution.name})."
        )
    return math.prod(event)


def _common_dtype(distributions: Sequence[tfd.Distribution]) -> str:
    found = {
        keras.backend.standardize_dtype(d.dtype)
        for d in distributions
        if dtype_util.is_floating(d.dtype)
    }
    if len(found) > 1:
        raise TypeError(
            "The blocks of a Composite must have one floating dtype. Received: "
            f"{sorted(found)}."
        )
    return found.pop() if found else "float32"


class _Composite(tfd.Distribution):
    """`Composite` of any blocks; they need not be composite tensors."""

    def __init__(
        self,
        distributions: Sequence[tfd.Distribution]
        | Mapping[str, tfd.Distribution],
        columns: Sequence[int | Sequence[int]] | None = None,
        dtype: Any = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Composite",
        names: Sequence[str] | None = None,
    ) -> None:
        """Constructs a distribution over rows.

        Args:
            distributions: of one batch shape, each over scalars or vectors; a
                list, or a dict by name.
            columns: for each block the columns of its outcome, an int or ints;
                by default consecutive columns.
            dtype: of the rows; by default the floating dtype of the blocks, or
                float32 if all are over integers.
            validate_args: whether to check parameters and data at run time,
                including those of the blocks and of what is within them.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.
            names: of the blocks in a list, by default those of the
                distributions, numbered where two are the same.

        Raises:
            TypeError: if the floating dtypes of the blocks differ.
            ValueError: if there is no block, a block is not over scalars or
                vectors, the batch shapes differ, `columns` do not fit the
                blocks, or names are not strings or not unique.
        """
        parameters = dict(locals())
        blocks, self._names = named_blocks(
            distributions, names, lambda block: block.name
        )
        # TFP copies and slices what is in a list.
        parameters.update(distributions=blocks, names=self._names)
        if not blocks:
            raise ValueError(
                "A Composite has one block or more. Received: distributions=[]."
            )
        batches = {tuple(block.batch_shape) for block in blocks}
        if len(batches) > 1 and all(None not in batch for batch in batches):
            raise ValueError(
                "The blocks of a Composite must have the same batch shape. "
                f"Received: {[tuple(block.batch_shape) for block in blocks]}."
            )
        self._columns = check_columns(columns, [*map(_size, blocks)])
        self._distributions = (
            [*map(validated, blocks)] if validate_args else blocks
        )
        super().__init__(
            dtype=_common_dtype(blocks) if dtype is None else dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED
            if all(
                block.reparameterization_type == tfd.FULLY_REPARAMETERIZED
                for block in blocks
            )
            else tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return {
            "distributions": parameter_properties.BatchedComponentProperties(
                event_ndims=lambda self: [0] * len(self.distributions)
            )
        }

    @property
    def distributions(self) -> list[tfd.Distribution]:
        """The blocks."""
        return self._distributions

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the blocks."""
        return self._names

    @property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """The columns of each block."""
        return self._columns

    def _event_shape(self) -> Any:
        return (sum(map(len, self._columns)),)

    def _event_shape_tensor(self) -> Tensor:
        return np.array(self._event_shape(), dtype=np.int32)

    def _parts(
        self, value: Tensor
    ) -> Iterator[tuple[tfd.Distribution, Tensor]]:
        """Each block and its columns, as it takes them."""
        value = ops.convert_to_tensor(value)
        for block, columns in zip(
            self._distributions, self._columns, strict=True
        ):
            part = ops.take(value, columns, axis=-1)
            if not tuple(block.event_shape):
                part = part[..., 0]
            if dtype_util.is_floating(block.dtype):
                part = ops.cast(
                    part, keras.backend.standardize_dtype(block.dtype)
                )
            yield block, part

    def log_prob_by_block(self, value: Tensor) -> dict[str, Tensor]:
        """The terms of `log_prob`: which columns are likely, and which not.

        Args:
            value: rows, `[..., columns]`.

        Returns:
            A dict from the name of each block to `[...]`, nats.
        """
        return dict(zip(self._names, self._log_probs(value), strict=True))

    def _log_probs(self, value: Tensor) -> list[Tensor]:
        dtype = keras.backend.standardize_dtype(self.dtype)
        return [
            ops.cast(block.log_prob(part), dtype)
            for block, part in self._parts(value)
        ]

    def log_prob_by_column(self, value: Tensor) -> Tensor:
        """The terms of `log_prob`, where columns are independent.

        Args:
            value: rows, `[..., columns]`.

        Returns:
            `[..., columns]`, nats.

        Raises:
            NotImplementedError: if columns of a block may depend on each other.
        """
        return self._row(
            [
                log_prob_by_element(block, part)
                for block, part in self._parts(value)
            ]
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        return ops.sum(ops.stack(self._log_probs(value), axis=-1), axis=-1)

    def _row(self, parts: list[Tensor]) -> Tensor:
        """The columns of all blocks in their order."""
        dtype = keras.backend.standardize_dtype(self.dtype)
        parts = [
            ops.cast(
                part if tuple(block.event_shape) else part[..., None], dtype
            )
            for block, part in zip(self._distributions, parts, strict=True)
        ]
        order = np.argsort([c for block in self._columns for c in block])
        return ops.take(ops.concatenate(parts, axis=-1), order, axis=-1)

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        seeds = samplers.split_seed(seed, n=len(self._distributions))
        return self._row(
            [
                block.sample(n, seed=seeds[i])
                for i, block in enumerate(self._distributions)
            ]
        )

    def _mean(self) -> Tensor:
        return self._row([block.mean() for block in self._distributions])

    def _mode(self) -> Tensor:
        return self._row([block.mode() for block in self._distributions])

    def _variance(self) -> Tensor:
        return self._row([block.variance() for block in self._distributions])

    def _default_event_space_bijector(self) -> Any:
        """From the blocks' own unconstrained spaces, one after the other.

        None where a block is discrete, as for all discrete distributions of
        TFP.
        """
        parts = []
        for block in self._distributions:
            if not tuple(block.event_shape):
                # A vector of one column: its parameters have an axis for it.
                shape = ps.concat([block.batch_shape_tensor(), [1]], axis=0)
                block = tfd.BatchReshape(block, shape)
            parts.append(block.experimental_default_event_space_bijector())
            if parts[-1] is None:
                return None
        sizes = [
            part.inverse_event_shape([len(columns)])[-1]
            for part, columns in zip(parts, self._columns, strict=True)
        ]
        order = np.argsort([c for block in self._columns for c in block])
        return tfb.Chain(
            [
                tfb.Permute(order.astype("int32")),
                tfb.Blockwise(parts, block_sizes=sizes),
            ]
        )

    def _entropy(self) -> Tensor:
        dtype = keras.backend.standardize_dtype(self.dtype)
        return sum(
            ops.cast(block.entropy(), dtype) for block in self._distributions
        )


class Composite(_Composite, tfd.AutoCompositeTensorDistribution):
    """Independent blocks of columns, each with a distribution of its own.

    #### Mathematical details

    ```none
    log p(y) = sum over the blocks i of log p_i(y[columns_i])      nats
    ```

    A density in the columns of continuous blocks, and a probability in those of
    discrete ones. Each block is over a scalar or a vector, and within it
    columns may depend on each other. Outcomes of all kinds share one floating
    dtype; whole numbers are checked as floats, and not cast to integers before
    their block sees them.

    `mean`, `variance` and `mode` are those of the blocks, column by column, and
    undefined where theirs are. `mean` also averages class numbers, which says
    little: take `mode`, or a `tfd.OneHotCategorical`, whose mean is the
    vector of probabilities.

    `tfd.Blockwise` (TFP 0.25) does not suit discrete blocks: it silently
    truncates fractions to integers, passes `validate_args` to no block, and has
    neither variance nor mode.

    #### Examples

    ```python
    row = Composite(
        {
            "size": tfd.Independent(tfd.Normal([0.0, 1.0], 1.0), 1),
            "smokes": tfd.Bernoulli(logits=0.3),
            "ward": tfd.Categorical(logits=[0.0, 1.0, 2.0]),
        },
        columns=[[0, 3], 1, 2],
    )
    row.log_prob([0.1, 1.0, 2.0, 0.7])                     # [], nats
    row.log_prob_by_block([0.1, 1.0, 2.0, 0.7])["ward"]    # [], nats
    row.sample(5, seed=1)                          # [5, 4]
    ```
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """As in `tfd.Independent`, the contents decide if it can cross.

        That is, enter or leave a compiled function. A likelihood with an
        optimal scale cannot: it holds a variable.
        """
        blocks = args[0] if args else kwargs.get("distributions", ())
        if isinstance(blocks, Mapping):
            blocks = blocks.values()
        if cls is Composite and not all(
            isinstance(block, tfd.AutoCompositeTensorDistribution)
            for block in blocks
        ):
            return _Composite(*args, **kwargs)
        return super().__new__(cls)


@tfd.RegisterKL(_Composite, _Composite)
def _kl_composite_composite(
    a: _Composite, b: _Composite, name: str | None = None
) -> Tensor:
    """KL(a || b), in nats: the sum over the blocks."""
    if a.columns != b.columns:
        raise NotImplementedError(
            "The KL divergence of two Composites is known where their blocks "
            f"have the same columns. Received: {a.columns} and {b.columns}."
        )
    dtype = keras.backend.standardize_dtype(a.dtype)
    return sum(
        ops.cast(kl_divergence(p, q), dtype)
        for p, q in zip(a.distributions, b.distributions, strict=True)
    )
