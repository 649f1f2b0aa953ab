"""A Gaussian over vectors, between diagonal and full covariance."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_min_scale, vector_size
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.heads.vector_layer import VectorLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["LowRankMultivariateNormal"]


@keras.saving.register_keras_serializable("tfp_vae")
class LowRankMultivariateNormal(VectorLayer):
    """A Gaussian over vectors with correlations in a few directions.

    ```none
    Normal(y; loc, diag(s**2) + U U^T),    s = softplus(x) + min_scale
    ```

    For vectors too long for a full covariance: parameters, memory and time grow
    with d, not with its square. With U = 0 it is `MultivariateNormalDiag`.

    Args:
        event_size: int, the length d of the vector.
        rank: int, the number r of columns of U.
        min_scale: the floor of s, in the units of the data. The relative error
            of a log density in float32 is about 1e-7 (|U| / s)**2, so this
            floor is higher than in other layers.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., event_size * (2 + rank)]`: means, then raw s, then U,
            `[d, r]`, row by row.

    Returns:
        `tfd.MultivariateNormalDiagPlusLowRankCovariance`, event shape
        `[event_size]`. TFP has no closed form of its KL divergence.

    Raises:
        ValueError: if a size is not a positive int, or the inputs are of the
            wrong width.
    """

    def __init__(
        self,
        event_size: int,
        rank: int,
        min_scale: float = 1e-3,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_size, convert_to_tensor_fn, **kwargs)
        self.rank = _check_rank(rank)
        self.min_scale = check_min_scale(min_scale)

    @staticmethod
    def params_size(event_size: int, rank: int) -> int:  # type: ignore[override]
        """`event_size * (2 + rank)`."""
        return vector_size(event_size) * (2 + _check_rank(rank))

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        size = self.event_size
        factor = ops.reshape(
            params[..., 2 * size :],
            (*ops.shape(params)[:-1], size, self.rank),
        )
        return tfd.MultivariateNormalDiagPlusLowRankCovariance(
            loc=params[..., :size],
            cov_diag_factor=ops.square(
                softplus(params[..., size : 2 * size]) + self.min_scale
            ),
            cov_perturb_factor=factor,
            name=type(self).__name__,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "min_scale": self.min_scale,
        }


def _check_rank(rank: Any) -> int:
    if isinstance(rank, bool) or not (isinstance(rank, int) and rank >= 1):
        raise ValueError(
            "The rank is the number of columns of U: a whole number, at least "
            "one. For rank 0, take MultivariateNormalDiag. Received: "
            f"rank={rank!r}."
        )
    return rank
