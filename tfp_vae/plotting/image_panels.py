"""Pictures of data and of what a model returns. Needs matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["figure", "save_image_panels"]


def figure(width: float, height: float) -> Any:
    """An empty figure, without a window.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn by matplotlib, which is not installed: "
            'pip install "tfp-vae[examples]".'
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def save_image_panels(
    path: str | Path, panels: dict[str, dict[str, np.ndarray]]
) -> None:
    """Writes images side by side: a column of panels for each kind.

    Args:
        path: the file to write, of a type matplotlib knows (.png, .pdf).
        panels: row title to column title to images, `[n, height, width]` or
            `[n, height, width, channels]`, shown on the range 0 to 1.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    columns = list(dict.fromkeys(c for row in panels.values() for c in row))
    canvas = figure(3.2 * len(columns), 0.4 + 1.15 * len(panels))
    axes = canvas.subplots(len(panels), len(columns), squeeze=False)
    for i, (row, cells) in enumerate(panels.items()):
        for j, column in enumerate(columns):
            axis = axes[i, j]
            axis.set_xticks([])
            axis.set_yticks([])
            if column in cells:
                axis.imshow(_tile(cells[column]), cmap="gray", vmin=0, vmax=1)
            if i == 0:
                axis.set_title(column)
            if j == 0:
                axis.set_ylabel(row)
    canvas.savefig(path, dpi=150)


def _tile(images: np.ndarray, across: int = 6) -> np.ndarray:
    """Images in rows of six, with a line between them."""
    images = np.clip(np.asarray(images, "float32"), 0.0, 1.0)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    missing = -len(images) % across
    margin = [(0, missing), (0, 1), (0, 1), *[(0, 0)] * (images.ndim - 3)]
    images = np.pad(images, margin, constant_values=0.5)
    rows = images.reshape(-1, across, *images.shape[1:])
    return np.concatenate(np.concatenate(rows, axis=1), axis=1)
