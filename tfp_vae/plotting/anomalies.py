"""The strangest examples, and what is strange about each."""

import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_vae.arguments import check_positive_int
from tfp_vae.plotting.image_panels import figure

__all__ = ["save_anomalies"]


def save_anomalies(
    path: str | Path,
    x: Any,
    element_scores: Any,
    scores: Any = None,
    names: Sequence[Any] | None = None,
    count: int = 12,
) -> np.ndarray:
    """Draws the strangest examples, with the strangeness of each element.

    Rows of a table become rows of a map, strangest first, with the value of
    each cell in it; images are shown beside a map of their pixels. The colour
    is the score of the element minus its median over the examples, in nats, so
    that an element that the model never reproduces does not dominate the
    others.

    Args:
        path: the file to write, of a type matplotlib knows (.png, .pdf).
        x: the data, `[N, columns]`, `[N, height, width]` or
            `[N, height, width, channels]`; for a table, in the unit to be
            shown.
        element_scores: `[N, *event]`, the result of `evaluation.anomaly_score`
            with `per_element=True`.
        scores: `[N]`, its result for the examples, which orders them; by
            default the sum of what is shown.
        names: of the columns of a table, by default their numbers.
        count: how many examples to draw.

    Returns:
        The numbers of the examples drawn, the strangest first.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if shapes do not fit, or `count` is not an int >= 1.
    """
    x = np.asarray(x)
    element_scores = np.asarray(element_scores, "float64")
    check_positive_int("count", count)
    if element_scores.shape != x.shape or x.ndim not in (2, 3, 4):
        raise ValueError(
            "The picture is of tables [N, columns] or images [N, height, "
            "width] or [N, height, width, channels], with one score for each "
            f"element. Received: x {x.shape}, element_scores "
            f"{element_scores.shape}. Take anomaly_score(..., "
            "per_element=True)."
        )
    if names is not None and (x.ndim > 2 or len(names) != x.shape[1]):
        raise ValueError(
            f"A table has one name for each of {x.shape[1]} columns, images "
            f"have none. Received: {len(names)} names, x {x.shape}."
        )
    excess = element_scores - np.nanmedian(element_scores, axis=0)
    if scores is None:
        # The medians are the same for all examples, so the sum keeps the order.
        scores = np.nansum(element_scores.reshape(len(x), -1), axis=1)
    scores = np.asarray(scores)
    if scores.shape != (len(x),):
        raise ValueError(
            f"Examples are ordered by one score each, [{len(x)}]. Received: "
            f"scores of shape {scores.shape}."
        )
    order = np.argsort(-scores, kind="stable")[:count]
    draw = _table if x.ndim == 2 else _images
    draw(path, x[order], excess[order], order, names)
    return order


def _table(
    path: str | Path,
    x: np.ndarray,
    excess: np.ndarray,
    order: np.ndarray,
    names: Sequence[Any] | None,
) -> None:
    rows, columns = x.shape
    canvas = figure(2.5 + 0.55 * columns, 1.8 + 0.32 * rows)
    axis = canvas.subplots()
    drawn = axis.imshow(excess, aspect="auto", cmap="Reds", vmin=0)
    axis.set_yticks(range(rows), order)
    axis.set_ylabel("example")
    axis.set_xticks(
        range(columns),
        range(columns) if names is None else names,
        rotation=90,
    )
    dark = np.nanmax(excess) / 2
    for i, j in np.ndindex(rows, columns):
        is_number = isinstance(x[i, j], numbers.Real)
        text = f"{x[i, j]:.3g}" if is_number else str(x[i, j])
        colour = "white" if excess[i, j] > dark else "black"
        axis.text(
            j, i, text, ha="center", va="center", color=colour, fontsize=6
        )
    canvas.colorbar(drawn, label="nats above median")
    canvas.savefig(path, dpi=150)


def _images(
    path: str | Path,
    x: np.ndarray,
    excess: np.ndarray,
    order: np.ndarray,
    names: Sequence[Any] | None,
) -> None:
    if x.ndim == 4:
        excess = excess.sum(axis=-1)
        x = x[..., 0] if x.shape[-1] == 1 else x
    canvas = figure(1.0 + 1.1 * len(x), 2.9)
    axes = canvas.subplots(2, len(x), squeeze=False)
    top = max(np.nanmax(excess), 1e-12)
    for j, example in enumerate(order):
        axes[0, j].imshow(np.clip(x[j], 0, 1), cmap="gray", vmin=0, vmax=1)
        axes[0, j].set_title(example)
        drawn = axes[1, j].imshow(excess[j], cmap="Reds", vmin=0, vmax=top)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    canvas.colorbar(drawn, ax=axes, label="nats above median")
    canvas.savefig(path, dpi=150)
