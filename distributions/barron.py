"""Barron's general robust density: Cauchy to normal by one learnable shape."""

import math
from typing import Any

from keras import ops

from tfp_vae.distributions.barron_density import (
    expected_energy,
    log_normalizer,
    log_upper_tail,
    log_variance,
    rho,
    tail_quantile,
)
from tfp_vae.distributions.location_scale import (
    SymmetricLocationScale,
    in_single_precision,
)
from tfp_vae.substrate import Tensor, assert_util, tensor_util

__all__ = ["Barron"]


class Barron(SymmetricLocationScale):
    """Barron's distribution with `loc`, `scale` and shape `alpha`.

    #### Mathematical details

    The probability density function is,

    ```none
    pdf(y; loc, scale, alpha) = exp(-rho(r)) / (scale * Z(alpha))
    r      = (y - loc) / scale
    rho(r) = b / alpha * ((r**2 / b + 1)**(alpha / 2) - 1),  b = |alpha - 2|
           = log(r**2 / 2 + 1)                               if alpha = 0
           = r**2 / 2                                        if alpha = 2
    Z      = pi sqrt 2 at 0, 2 e K_1(1) at 1, sqrt(2 pi) at 2
    ```

    the density whose negative logarithm is the general robust loss of the
    standardised residual, plus a constant. Any `alpha >= 0` is allowed; below
    0 the density does not integrate. `alpha = 0` is `tfd.Cauchy(loc, sqrt(2)
    scale)`, 1 the Charbonnier or pseudo-Huber density, 2 `tfd.Normal(loc,
    scale)`, and larger ones have lighter tails still. All logarithms are in
    nats.

    Log Z is a Chebyshev fit, good to 1e-14 in float64, with its derivative.
    Tails and quantiles are integrals by 44 Gauss nodes (20 in float32). Samples
    are drawn by the inverse cdf and reparameterised in all three parameters, up
    to second derivatives. `kl_divergence` with another member of the family,
    `HyperbolicSecant`, Normal or Laplace is by quadrature, with an error below
    1e-5 (1 + KL), and for alpha of 1/4 or more below 1e-8 (1 + KL) in float64.

    The mean is `loc` for `alpha > 0` and undefined at 0. The variance is finite
    for `alpha > 0`, where it rises as exp(0.22 / alpha), and undefined at 0.

    #### The derivative in alpha

    It is continuous from the right at 0, and continuous elsewhere except at 2:
    there rho = r**2 / 2 + (alpha - 2) (log(r**2 / b) - 1) r**2 / 4 + ..., so
    that the true derivative of the log density is infinite, as `log b`, for all
    residuals except |r| = 1. At exactly 2 the gradient is the finite one for
    b = 1e-10 (1e-20 in float64); its mean over the density is zero, as the mean
    of a score must be.

    #### Examples

    ```python
    likelihood = Barron(loc=[0.0, 1.0], scale=0.5, alpha=1.0)
    likelihood.log_prob([0.1, 30.0])   # [2], nats
    likelihood.sample(3, seed=1)       # [3, 2], reparameterised
    ```

    #### References

    [1]: Jonathan T. Barron. A General and Adaptive Robust Loss Function. In
         _Computer Vision and Pattern Recognition_, 2019.
         https://arxiv.org/abs/1701.03077
    """

    _shapes = {"alpha": False}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor = 1.0,
        alpha: Tensor = 1.0,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Barron",
    ) -> None:
        """Constructs Barron distributions; the parameters broadcast.

        Args:
            loc: floating point tensor, the centre.
            scale: positive floating point tensor, in the units of `loc`.
            alpha: non-negative floating point tensor, the shape: the smaller,
                the heavier the tails.
            validate_args: whether to check parameters and data at run time.
            allow_nan_stats: whether undefined statistics are NaN or an error.
            name: name prefixed to the operations of this class.

        Raises:
            TypeError: if the parameters differ in dtype or are not floating.
            ValueError, InvalidArgumentError: under `validate_args`, if `scale`
                is not positive or `alpha` is negative.
        """
        super().__init__(dict(locals()))

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        properties = cls._properties(dtype)
        return {**properties, "alpha": properties["scale"]}

    @property
    def alpha(self) -> Tensor:
        """The shape: 0 Cauchy, 1 Charbonnier, 2 normal."""
        return self._alpha

    @in_single_precision
    def _log_prob(self, value: Tensor) -> Tensor:
        scale, alpha = self._tensor("scale"), self._tensor("alpha")
        size = ops.abs((value - self._tensor("loc")) / scale)
        return -rho(size, alpha) - (ops.log(scale) + log_normalizer(alpha))

    def _log_upper_tail(self, x: Tensor) -> Tensor:
        alpha = self._tensor("alpha")
        return log_upper_tail(x + ops.zeros_like(alpha), alpha)

    def _upper_quantile(self, q: Tensor) -> Tensor:
        return tail_quantile(q, ops.cast(self._tensor("alpha"), q.dtype))

    def _mean(self) -> Tensor:
        alpha = self._tensor("alpha")
        return self._where_defined(self._tensor("loc"), alpha, "mean")

    @in_single_precision
    def _variance(self) -> Tensor:
        scale, alpha = self._tensor("scale"), self._tensor("alpha")
        safe = ops.where(alpha > 0.0, alpha, 1.0)
        variance = ops.square(scale) * ops.exp(log_variance(safe))
        return self._where_defined(variance, alpha, "variance")

    @in_single_precision
    def _stddev(self) -> Tensor:
        # Not from the variance, which overflows first.
        scale, alpha = self._tensor("scale"), self._tensor("alpha")
        safe = ops.where(alpha > 0.0, alpha, 1.0)
        stddev = scale * ops.exp(0.5 * log_variance(safe))
        return self._where_defined(stddev, alpha, "standard deviation")

    def _where_defined(
        self, statistic: Tensor, alpha: Tensor, name: str
    ) -> Tensor:
        if not self.allow_nan_stats:
            assert_util.assert_positive(
                alpha, message=f"The {name} is undefined at `alpha` = 0."
            )
        return self._over_batch(ops.where(alpha > 0.0, statistic, math.nan))

    @in_single_precision
    def _entropy(self) -> Tensor:
        alpha = self._tensor("alpha")
        return self._over_batch(
            ops.log(self._tensor("scale"))
            + log_normalizer(alpha)
            + expected_energy(alpha)
        )

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        assertions = super()._parameter_control_dependencies(is_init)
        if self.validate_args and is_init != tensor_util.is_ref(self._alpha):
            assertions.append(
                assert_util.assert_non_negative(
                    self._alpha,
                    message="Argument `alpha` must be non-negative.",
                )
            )
        return assertions
