"""What our families on the real line share."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    Tensor,
    as_tensor,
    assert_util,
    dtype_util,
    parameter_properties,
    ps,
    samplers,
    tensor_util,
    tfb,
    tfd,
)

__all__ = ["LocationScale", "SymmetricLocationScale", "in_single_precision"]


def in_single_precision(
    method: Callable[..., Tensor],
) -> Callable[..., Tensor]:
    """Runs a method on float16 or bfloat16 arguments in float32.

    The special functions of the tails exist from float32 up.

    Args:
        method: of a `LocationScale`, from tensors to one.

    Returns:
        The method, whose result has the dtype of the distribution.
    """

    @wraps(method)
    def wrapper(self: "LocationScale", *values: Tensor) -> Tensor:
        dtype = keras.backend.standardize_dtype(self.dtype)
        if dtype not in ("float16", "bfloat16"):
            return method(self, *values)
        wide = self.copy(
            **{
                name: ops.cast(self._tensor(name), "float32")
                for name in self._tensor_names()
            }
        )
        values = tuple(ops.cast(value, "float32") for value in values)
        return ops.cast(method(wide, *values), dtype)

    return wrapper


def _draw_tail(shape: Tensor, dtype: str, seed: Any) -> tuple[Tensor, Tensor]:
    """Draws a tail, and a mass in it for the inverse cdf.

    A uniform number is a multiple of eps, too coarse for a tail: a second one
    fills the gap below the first.

    Returns:
        The mass, in (0, 1/2], and whether it is that of the upper tail.
    """
    eps = float(np.finfo(dtype).eps)
    kind = np.dtype(dtype).type
    first, second, third = samplers.split_seed(seed, n=3, salt="tail")
    coarse = samplers.uniform(shape, dtype=kind, seed=first)
    fine = samplers.uniform(shape, eps, 1.0, dtype=kind, seed=second)
    side = samplers.uniform(shape, dtype=kind, seed=third)
    return 0.5 * (coarse + eps * fine), side < 0.5


class LocationScale(tfd.AutoCompositeTensorDistribution):
    """The base of scalar families with `loc`, `scale` and shape parameters.

    A subclass gives `_mass_below`, `_log_mass_below` and `_mirrored_quantile`,
    from which cdf, quantile and draws follow. It names its shape parameters in
    `_shapes`, each with whether it must be positive, gives each a property,
    returns `cls._properties(dtype)` from its `_parameter_properties`, and calls
    `super().__init__(dict(locals()))` in its constructor.

    Args:
        parameters: the arguments of the subclass's constructor.

    Raises:
        TypeError: if the parameters differ in dtype or are not floating.
        ValueError, InvalidArgumentError: under `validate_args`, if a parameter
            that must be positive is not.
    """

    _shapes: dict[str, bool] = {}

    def __init__(self, parameters: dict[str, Any]) -> None:
        names = self._tensor_names()
        dtype = dtype_util.common_dtype(
            [parameters[name] for name in names], np.float32
        )
        tensors = []
        for name in names:
            tensors.append(
                tensor_util.convert_nonref_to_tensor(
                    parameters[name], name=name, dtype=dtype
                )
            )
            setattr(self, f"_{name}", tensors[-1])
        dtype_util.assert_same_float_dtype(tensors)
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=parameters["validate_args"],
            allow_nan_stats=parameters["allow_nan_stats"],
            parameters=parameters,
            name=parameters["name"],
        )

    @classmethod
    def _tensor_names(cls) -> tuple[str, ...]:
        return ("loc", "scale", *cls._shapes)

    @classmethod
    def _positive_names(cls) -> tuple[str, ...]:
        return ("scale", *(name for name, sign in cls._shapes.items() if sign))

    @classmethod
    def _properties(cls, dtype: Any) -> dict[str, Any]:
        """What a subclass returns from its own `_parameter_properties`.

        TFP warns of an inherited one as a mistake.
        """

        def positive() -> Any:
            return tfb.Softplus(low=dtype_util.eps(dtype))

        properties = parameter_properties.ParameterProperties
        return {
            name: properties(default_constraining_bijector_fn=positive)
            if name in cls._positive_names()
            else properties()
            for name in cls._tensor_names()
        }

    @property
    def loc(self) -> Tensor:
        """The location."""
        return self._loc

    @property
    def scale(self) -> Tensor:
        """The scale, in the units of `loc`."""
        return self._scale

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return np.array([], dtype=np.int32)

    def _tensor(self, name: str) -> Tensor:
        return as_tensor(getattr(self, f"_{name}"))

    def _standardized(self, value: Tensor) -> Tensor:
        return (value - self._tensor("loc")) / self._tensor("scale")

    def _over_batch(self, statistic: Tensor) -> Tensor:
        return ops.broadcast_to(statistic, self._batch_shape_tensor())

    def _mass(self, value: Tensor, upper: bool, log: bool) -> Tensor:
        """P(Y < value), or P(Y > value) if `upper`, or its logarithm."""
        loc, scale = self._tensor("loc"), self._tensor("scale")
        distance = loc - value if upper else value - loc
        r = distance / scale
        has_all, has_none = r == math.inf, r == -math.inf
        # Masses of 0 and of 1 are constant. No gradient is computed there: it
        # would be 0 times infinity.
        r = ops.where(has_all | has_none, 0.0, distance) / scale
        none, everything = (-math.inf, 0.0) if log else (0.0, 1.0)
        mass_below = self._log_mass_below if log else self._mass_below
        mass = mass_below(r, upper)
        return ops.where(has_all, everything, ops.where(has_none, none, mass))

    @in_single_precision
    def _cdf(self, value: Tensor) -> Tensor:
        return self._mass(value, upper=False, log=False)

    @in_single_precision
    def _survival_function(self, value: Tensor) -> Tensor:
        return self._mass(value, upper=True, log=False)

    @in_single_precision
    def _log_cdf(self, value: Tensor) -> Tensor:
        return self._mass(value, upper=False, log=True)

    @in_single_precision
    def _log_survival_function(self, value: Tensor) -> Tensor:
        return self._mass(value, upper=True, log=True)

    def _mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        """P(R < r) of the standardised residual R, or of -R if `mirrored`."""
        raise NotImplementedError

    def _log_mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        """The logarithm of `_mass_below`."""
        raise NotImplementedError

    @in_single_precision
    def _quantile(self, value: Tensor) -> Tensor:
        upper = value > 0.5
        r = self._mirrored_quantile(ops.where(upper, 1.0 - value, value), upper)
        return self._tensor("loc") + self._tensor("scale") * r

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        # By the quantile, so that draws depend on every parameter.
        shape = ps.concat([[n], self._batch_shape_tensor()], 0)
        wide = "float64" if self.dtype == np.float64 else "float32"
        mass, upper = _draw_tail(shape, wide, seed)
        r = ops.cast(
            self._mirrored_quantile(mass, upper),
            keras.backend.standardize_dtype(self.dtype),
        )
        return self._tensor("loc") + self._tensor("scale") * r

    def _mirrored_quantile(self, p: Tensor, upper: Tensor) -> Tensor:
        """The standard quantile at p, or at 1 - p where `upper`; p <= 1/2.

        In the dtype of p, which for a draw is float32 at least.
        """
        raise NotImplementedError

    def _default_event_space_bijector(self) -> Any:
        return tfb.Identity(validate_args=self.validate_args)

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        if not self.validate_args:
            return []
        return [
            assert_util.assert_positive(
                getattr(self, f"_{name}"),
                message=f"Argument `{name}` must be positive.",
            )
            for name in self._positive_names()
            if is_init != tensor_util.is_ref(getattr(self, f"_{name}"))
        ]


class SymmetricLocationScale(LocationScale):
    """A family that is symmetric about `loc`, given by its upper tail.

    A subclass defines `_log_upper_tail(x)`, log P(r > x) of the standardised
    residual for x >= 0, and `_upper_quantile(q)`, the x >= 0 with P(r > x) = q
    for 0 <= q <= 1/2. The cdf, the quantile and the draws follow from these,
    without 1 - p in a tail.
    """

    def _log_upper_tail(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _upper_quantile(self, q: Tensor) -> Tensor:
        raise NotImplementedError

    def _log_mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        # `where` and not `abs`: the derivative at r = 0 must be the density.
        tail = self._log_upper_tail(ops.where(r < 0, -r, r))
        return ops.where(r < 0, tail, ops.log1p(-ops.exp(tail)))

    def _mass_below(self, r: Tensor, mirrored: bool) -> Tensor:
        tail = ops.exp(self._log_upper_tail(ops.where(r < 0, -r, r)))
        return ops.where(r < 0, tail, 1.0 - tail)

    def _mirrored_quantile(self, p: Tensor, upper: Tensor) -> Tensor:
        x = self._upper_quantile(p)
        return ops.where(upper, x, -x)

    def _mean(self) -> Tensor:
        return self._over_batch(self._tensor("loc"))

    def _mode(self) -> Tensor:
        return self._over_batch(self._tensor("loc"))

    def _median(self) -> Tensor:
        return self._over_batch(self._tensor("loc"))
