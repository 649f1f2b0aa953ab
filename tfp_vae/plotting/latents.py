"""What a latent space looks like, decoded and from above."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.arguments import check_one_of, check_positive_int
from tfp_vae.latents import refuse_joint
from tfp_vae.layers.sample import mean_or_mode
from tfp_vae.plotting.image_panels import figure

__all__ = [
    "interpolation",
    "latent_manifold",
    "latent_map",
    "latent_traversal",
]

# Classes up to so many have a legend; more numbers have a scale.
_MOST_CLASSES = 20


def latent_traversal(
    vae: Any,
    x: Any = None,
    coordinates: Sequence[int] | None = None,
    span: float = 3.0,
    steps: int = 9,
    image_shape: tuple[int, ...] | None = None,
    **conditions: Any,
) -> Any:
    """Decodes z as one coordinate after the other moves, a row for each.

    Args:
        vae: a `VAE` of one vector of latents.
        x: one example, `[*event]`, at whose posterior mean the others stay; by
            default they stay at 0.
        coordinates: which move; by default the first ten.
        span: from minus this to this, in units of z.
        steps: columns.
        image_shape: what decoded vectors are to be drawn as, such as (8, 8).
        **conditions: by name, one value for all.

    Returns:
        A `matplotlib.figure.Figure`: images, or a line for each vector.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if z is no vector, or a number is out of range.
        NotImplementedError: for joint latents.
    """
    check_positive_int("steps", steps)
    center = _mean(vae, x, conditions)[0]
    size = len(center)
    chosen = list(range(min(size, 10)) if coordinates is None else coordinates)
    if not chosen or not all(-size <= i < size for i in chosen):
        raise ValueError(
            f"The coordinates of z are 0 to {size - 1}. Received: "
            f"coordinates={chosen}."
        )
    values = np.linspace(-span, span, steps)
    z = np.tile(center, (len(chosen), steps, 1))
    for row, coordinate in enumerate(chosen):
        z[row, :, coordinate] = values
    return _grid(
        _decoded(vae, z, image_shape, conditions),
        [f"z[{i}]" for i in chosen],
        [f"{value:.1f}" for value in values],
    )


def interpolation(
    vae: Any,
    x: Any,
    y: Any,
    steps: int = 9,
    path: str = "linear",
    image_shape: tuple[int, ...] | None = None,
    **conditions: Any,
) -> Any:
    """Decodes the way from one example to another, a row for each pair.

    ```none
    linear      (1 - t) a + t b
    spherical   (sin((1 - t) w) a + sin(t w) b) / sin w,   cos w = a.b / |a||b|
    ```

    A line between two draws of a normal in many dimensions passes where the
    prior has next to no mass; an arc keeps the length of z.

    Args:
        vae: a `VAE` of one vector of latents.
        x: where the ways begin, `[n, *event]`; a and b are posterior means.
        y: where they end, `[n, *event]`.
        steps: columns, at least 2.
        path: `"linear"` or `"spherical"`.
        image_shape: as for `latent_traversal`.
        **conditions: by name, one value for all.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if x and y are not as many, z is no vector, or an argument
            is out of range.
        NotImplementedError: for joint latents.

    Reference:
        White. Sampling generative networks. 2016.
        https://arxiv.org/abs/1609.04468
    """
    check_one_of("path", path, ("linear", "spherical"))
    if check_positive_int("steps", steps) < 2 or len(x) != len(y):
        raise ValueError(
            "A way has two ends, of x and of y, and takes two steps or more. "
            f"Received: {len(x)} and {len(y)} examples, steps={steps}."
        )
    a = _mean(vae, x, conditions, many=True)[:, None]
    b = _mean(vae, y, conditions, many=True)[:, None]
    t = np.linspace(0.0, 1.0, steps)[:, None]
    z = (1 - t) * a + t * b
    if path == "spherical":
        lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosine = (a * b).sum(-1) / np.maximum(lengths, 1e-12)
        angle = np.arccos(np.clip(cosine, -1, 1))[..., None]
        sine = np.sin(angle)
        arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.where(
            sine > 1e-6, sine, 1.0
        )
        # Of parallel vectors the arc is the line.
        z = np.where(sine > 1e-6, arc, z)
    return _grid(
        _decoded(vae, z, image_shape, conditions),
        [str(i) for i in range(len(z))],
        [f"{value:.2f}" for value in t[:, 0]],
    )


def latent_manifold(
    vae: Any,
    side: int = 15,
    image_shape: tuple[int, ...] | None = None,
    **conditions: Any,
) -> Any:
    """Decodes a grid over a latent space of two dimensions.

    The grid is at the quantiles of the standard normal, so that each panel
    stands for as much of that prior.

    Args:
        vae: a `VAE` of latents `[2]`.
        side: panels a side.
        image_shape: as for `latent_traversal`.
        **conditions: by name, one value for all.

    Returns:
        A `matplotlib.figure.Figure`: z[0] to the right, z[1] up.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if z is not of two dimensions, or `side` no int >= 1.
        NotImplementedError: for joint latents.

    Reference:
        Kingma, Welling. Auto-encoding variational Bayes. ICLR 2014 (figure 4).
        https://arxiv.org/abs/1312.6114
    """
    check_positive_int("side", side)
    size = len(_mean(vae, None, conditions)[0])
    if size != 2:
        raise ValueError(
            "A manifold is drawn of two latent dimensions. Received: "
            f"{size}. Take latent_traversal() or latent_map()."
        )
    normal = NormalDist()
    places = [normal.inv_cdf((i + 0.5) / side) for i in range(side)]
    z = np.stack(np.meshgrid(places, places[::-1]), axis=-1)
    names = [f"{place:.1f}" for place in places]
    return _grid(_decoded(vae, z, image_shape, conditions), names[::-1], names)


def latent_map(
    vae: Any,
    x: Any,
    labels: Any = None,
    coordinates: tuple[int, int] | None = None,
) -> Any:
    """A point for each example at its posterior mean, coloured by label.

    Args:
        vae: a `VAE` of one vector of latents.
        x: data, `[N, *event]`, or a dict of them and of conditions.
        labels: `[N]`, classes or numbers, or None.
        coordinates: which two of z; by default both of two, else the two main
            directions of the means (principal components).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if z is no vector of two or more, or there is not one label
            for each example.
        NotImplementedError: for joint latents.
    """
    means = _vectors(vae.predict(x, verbose=0)["z_mean"])
    if means.shape[1] < 2:
        raise ValueError(
            "A map is of two latent dimensions or more. Received: "
            f"{means.shape[1]}."
        )
    names = ["z[{}]", "z[{}]"]
    pair = (0, 1) if coordinates is None else tuple(coordinates)
    if coordinates is None and means.shape[1] > 2:
        centered = means - means.mean(axis=0)
        _, _, directions = np.linalg.svd(centered, full_matrices=False)
        means, names = centered @ directions[:2].T, ["component {}"] * 2
    canvas = figure(5.5, 4.5)
    axis = canvas.subplots()
    first, second = means[:, pair[0]], means[:, pair[1]]
    axis.set_xlabel(names[0].format(pair[0]))
    axis.set_ylabel(names[1].format(pair[1]))
    if labels is None:
        axis.scatter(first, second, s=6)
        return canvas
    labels = np.asarray(labels)
    if labels.shape != (len(means),):
        raise ValueError(
            f"There is one label for each of {len(means)} examples. Received: "
            f"labels of shape {labels.shape}."
        )
    classes = np.unique(labels)
    if labels.dtype.kind == "f" or len(classes) > _MOST_CLASSES:
        drawn = axis.scatter(first, second, s=6, c=labels)
        canvas.colorbar(drawn)
        return canvas
    for i, label in enumerate(classes):
        colour = f"C{i}" if len(classes) <= 10 else None
        is_it = labels == label
        axis.scatter(first[is_it], second[is_it], s=6, c=colour, label=label)
    axis.legend(markerscale=2, fontsize=8)
    return canvas


def _vectors(z: Any) -> np.ndarray:
    if isinstance(z, (dict, tuple, list)) or np.ndim(z) != 2:
        raise ValueError(
            "Pictures of the latent space are of one vector z, [L]. Received: "
            + (
                "joint latents."
                if isinstance(z, (dict, tuple, list))
                else f"latents of shape {np.shape(z)[1:]}."
            )
        )
    return np.asarray(z, "float64")


def _mean(
    vae: Any, x: Any, conditions: dict[str, Any], many: bool = False
) -> np.ndarray:
    """Posterior means `[n, L]` of examples; of none, a zero."""
    if x is None:
        posterior = vae.example_posterior()
    else:
        x = np.asarray(x) if many else np.asarray(x)[None]
        rows = {
            name: np.broadcast_to(value, (len(x), *np.shape(value)))
            for name, value in conditions.items()
        }
        posterior = vae.encode({**rows, "x": x} if rows else x)
    refuse_joint(
        posterior, "A picture of the latent space", "Decode z by vae.decode()."
    )
    mean = _vectors(ops.convert_to_numpy(mean_or_mode(posterior)))
    return np.zeros_like(mean) if x is None else mean


def _decoded(
    vae: Any,
    z: np.ndarray,
    image_shape: tuple[int, ...] | None,
    conditions: dict[str, Any],
) -> np.ndarray:
    """Means of the likelihood, `[rows, columns, *event]`, of z there."""
    flat = ops.convert_to_tensor(z.reshape(-1, z.shape[-1]), "float32")
    means = ops.convert_to_numpy(mean_or_mode(vae.decode(flat, **conditions)))
    event = means.shape[1:] if image_shape is None else tuple(image_shape)
    if np.prod(event) != np.prod(means.shape[1:]) or len(event) > 3:
        raise ValueError(
            "Decoded examples are drawn as vectors, or as images [height, "
            f"width] or [height, width, channels]. Received: "
            f"{means.shape[1:]}, image_shape={image_shape}."
        )
    return means.reshape(*z.shape[:2], *event)


def _grid(panels: np.ndarray, rows: list[str], columns: list[str]) -> Any:
    """Images without gaps, or a line for each vector."""
    down, across = panels.shape[:2]
    if panels.ndim < 4:
        canvas = figure(0.8 + 0.9 * across, 0.6 + 0.8 * down)
        axes = canvas.subplots(
            down, across, squeeze=False, sharex=True, sharey=True
        )
        for place in np.ndindex(down, across):
            values = np.atleast_1d(panels[place])
            axes[place].plot(values, marker="." if len(values) < 20 else "")
            axes[place].set_xticks([])
        for j, name in enumerate(columns):
            axes[0, j].set_title(name, fontsize=8)
        for i, name in enumerate(rows):
            axes[i, 0].set_ylabel(name, fontsize=8)
        return canvas
    images = np.clip(panels, 0.0, 1.0)
    if images.ndim == 5 and images.shape[-1] == 1:
        images = images[..., 0]
    height, width = images.shape[2:4]
    canvas = figure(0.8 + 0.6 * across, 0.6 + 0.6 * down * height / width)
    axis = canvas.subplots()
    picture = np.concatenate(np.concatenate(images, axis=1), axis=1)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks((np.arange(across) + 0.5) * width - 0.5, columns)
    axis.set_yticks((np.arange(down) + 0.5) * height - 0.5, rows)
    axis.tick_params(length=0, labelsize=7)
    return canvas
