"""The likelihoods of the columns of a table, as blocks of a `Composite`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.layers.heads.bounded import IndependentBernoulli
from tfp_vae.layers.heads.categorical import IndependentCategorical
from tfp_vae.layers.heads.counts import (
    IndependentNegativeBinomial,
    IndependentPoisson,
    IndependentZeroInflatedNegativeBinomial,
    IndependentZeroInflatedPoisson,
)
from tfp_vae.layers.heads.independent import (
    IndependentBarron,
    IndependentHuber,
    IndependentLaplace,
    IndependentNormal,
    IndependentStudentT,
)
from tfp_vae.tables import Column, TableEncoder

__all__ = ["Likelihood", "table_blocks"]

#: A name, or a function from a number of columns to a layer over them, such as
#: the class of a layer.
Likelihood = str | Callable[[int], DistributionLayer]

# The floor of a scale, as a share of the spread of its column: without it,
# rounded values would take the scale to zero.
_FLOOR = 1e-2
_NAMED: dict[str, dict[str, Callable[[int], DistributionLayer]]] = {
    "continuous": {
        name: functools.partial(family, min_scale=_FLOOR)
        for name, family in {
            "normal": IndependentNormal,
            "huber": IndependentHuber,
            "student_t": IndependentStudentT,
            "laplace": IndependentLaplace,
            "barron": IndependentBarron,
        }.items()
    },
    "count": {
        "negative_binomial": IndependentNegativeBinomial,
        "poisson": IndependentPoisson,
        "zero_inflated_negative_binomial": (
            IndependentZeroInflatedNegativeBinomial
        ),
        "zero_inflated_poisson": IndependentZeroInflatedPoisson,
    },
}
_NAMED["positive"] = _NAMED["continuous"]


def table_blocks(
    table: TableEncoder,
    continuous: Likelihood,
    count: Likelihood,
    likelihoods: Mapping[Any, Likelihood] | None,
) -> tuple[list[DistributionLayer], list[list[int]]]:
    """One block for all columns of the same likelihood.

    Args:
        table: of the columns.
        continuous: the likelihood of continuous and positive columns.
        count: the likelihood of counts.
        likelihoods: names of columns to likelihoods that differ from these.

    Returns:
        The layers, and for each its columns in x.

    Raises:
        TypeError: if a likelihood does not make a distribution layer.
        ValueError: if a likelihood or a column is unknown, or a layer is over
            another number of columns.
    """
    likelihoods = dict(likelihoods or {})
    by_kind = {"continuous": continuous, "positive": continuous, "count": count}
    for name in likelihoods:
        kinds = [c.kind for c in table.encoded if c.name == name]
        if not kinds or kinds[0] not in by_kind:
            raise ValueError(
                "A likelihood is chosen for columns that are continuous, "
                "positive or counts. Received: likelihoods with "
                f"{name!r}, which is {kinds[0] if kinds else 'no column of x'}."
                " Binary and categorical columns have only one."
            )
    groups: dict[Any, list[int]] = {}
    for place, column in enumerate(table.encoded):
        key: Any
        if column.coded:
            key = (column.kind, len(column.categories or ()))
        else:
            choice = likelihoods.get(column.name, by_kind[column.kind])
            key = _maker(choice, column)
        groups.setdefault(key, []).append(place)
    blocks = [_block(key, len(places)) for key, places in groups.items()]
    return blocks, list(groups.values())


def _maker(
    choice: Likelihood, column: Column
) -> Callable[[int], DistributionLayer]:
    if callable(choice):
        return choice
    named = _NAMED[column.kind]
    if choice not in named:
        raise ValueError(
            f"The likelihood of the {column.kind} column {column.name!r} is "
            f"one of {sorted(named)}, or a function of a number of columns to "
            f"a layer, such as IndependentHuber. Received: {choice!r}."
        )
    return named[choice]


def _block(key: Any, size: int) -> DistributionLayer:
    if isinstance(key, tuple):
        kind, classes = key
        if kind == "binary":
            return IndependentBernoulli(size)
        return IndependentCategorical(size, classes)
    block = key(size)
    if not isinstance(block, DistributionLayer):
        raise TypeError(
            "A likelihood is a function of a number of columns to a "
            "distribution layer over them, such as the class IndependentHuber. "
            f"Received: one that gives {block!r} for {size}."
        )
    if block.event_shape != (size,):
        raise ValueError(
            "The layer of a likelihood must be over the requested number of "
            f"columns. Received: {type(block).__name__} over "
            f"{block.event_shape} for {size}."
        )
    return block
