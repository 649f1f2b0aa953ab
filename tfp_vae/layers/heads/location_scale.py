"""The base of layers for symmetric families with a location and a scale."""

from typing import Any

from tfp_vae.layers.heads.independent_layer import IndependentLayer, Mode
from tfp_vae.layers.heads.maximum_likelihood import maximum_likelihood_scale
from tfp_vae.substrate import Tensor

__all__ = ["LocationScaleLayer"]


class LocationScaleLayer(IndependentLayer):
    """The base of layers for densities f((y - loc) / scale) / scale.

    A subclass needs only `score` in addition to what `IndependentLayer` asks
    for; the optimal scale follows from it.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: the floor of the scale.
        scale: `"learned"`, `"shared"`, `"optimal"` or a number, in the units of
            the data.
        **kwargs: of `IndependentLayer`.

    Call arguments:
        inputs: parameters, flat or with the channels last.

    Returns:
        `tfd.Independent` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`; or, with `scale="optimal"`, if
            another parameter is not a number.
    """

    parameters: tuple[str, ...] = ("loc", "scale")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        scale: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape, convert_to_tensor_fn, min_scale, scale=scale, **kwargs
        )
        if self.modes["scale"] != "optimal":
            return
        for name, mode in self.modes.items():
            if name != "scale" and isinstance(mode, str):
                raise ValueError(
                    "An optimal scale is computed for a known threshold or "
                    f'shape: with scale="optimal", {name} must be a number. '
                    f"Received: {name}={mode!r}."
                )

    def score(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The function that decides the maximum-likelihood scale.

        Args:
            u: absolute residuals in units of the scale, any shape.

        Returns:
            `w(u) = -u (log f)'(u)`, the share of each residual in the equation
            mean(w) = 1 for the scale, and `u w'(u)`; both like u.
        """
        raise NotImplementedError

    def optimal_scale(self, residual: Tensor) -> Tensor:
        return maximum_likelihood_scale(residual, self.score, self.min_scale)
