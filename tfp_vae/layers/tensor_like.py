"""Distributions that draw by themselves, and that are tensors as well."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = ["seeded", "tensor_like"]


class _Seeded:
    """Draws need no seed: on JAX TFP asks for one, in `tfp.layers` none is."""

    _seed: Any = None

    @property
    def tensor_distribution(self) -> tfd.Distribution:
        """The distribution without these manners."""
        # Not kept, since JAX takes a distribution apart and makes it anew.
        plain: Any = object.__new__(_families[type(self)])
        vars(plain).update(vars(self))
        for name in ("_seed", "_tensor"):
            vars(plain).pop(name, None)
        return plain

    def copy(self, **parameters: Any) -> tfd.Distribution:
        """See `tfd.Distribution.copy`; without the manners of this one."""
        return self.tensor_distribution.copy(**parameters)

    def __getitem__(self, slices: Any) -> tfd.Distribution:
        return self.tensor_distribution[slices]

    def sample(
        self,
        sample_shape: Any = (),
        seed: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """See `tfd.Distribution.sample`; without a seed, that of the layer."""
        if seed is None:
            seed = tfp_seed(self._seed)
        return super().sample(sample_shape, seed, *args, **kwargs)  # type: ignore[misc]


class _TensorLike(_Seeded):
    """Is a tensor wherever TensorFlow, JAX, numpy or an operator wants one."""

    def _tensor(self) -> Tensor:
        raise TypeError(
            "A compiled function returns a distribution of which it is not "
            "known any more which tensor it stands for. Return the tensor, as "
            f"by ops.convert_to_tensor. Received: {self!r}."
        )

    @property
    def shape(self) -> Any:
        """That of the tensor."""
        return self._tensor().shape

    def numpy(self) -> np.ndarray:
        """The tensor, as an array."""
        return np.asarray(ops.convert_to_numpy(self._tensor()))

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    def __jax_array__(self) -> Tensor:
        return self._tensor()

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        value = self._tensor()
        return value if dtype is None else ops.cast(value, dtype)


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: function(self._tensor())


def _binary(
    function: Callable[[Any, Any], Any], is_reflected: bool
) -> Callable[[Any, Any], Any]:
    def apply(self: Any, other: Any) -> Any:
        if isinstance(other, _TensorLike):
            other = other._tensor()
        if is_reflected:
            return function(other, self._tensor())
        return function(self._tensor(), other)

    return apply


for _name in ("neg", "abs"):
    setattr(_TensorLike, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("lt", "le", "gt", "ge"):
    setattr(
        _TensorLike, f"__{_name}__", _binary(getattr(operator, _name), False)
    )
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    for _prefix in ("", "r"):
        setattr(
            _TensorLike,
            f"__{_prefix}{_name}__",
            _binary(getattr(operator, _name), bool(_prefix)),
        )
for _prefix in ("", "r"):
    setattr(
        _TensorLike,
        f"__{_prefix}matmul__",
        _binary(operator.matmul, bool(_prefix)),
    )


# The class of a family of distributions that each class with manners is of.
_families: dict[type, type] = {}


@functools.cache
def _subclass(manners: type, family: type) -> type:
    """A class of a family of distributions, with more manners."""
    made = type(
        family.__name__, (manners, family), {"__module__": family.__module__}
    )
    _families[made] = family
    return made


def _copy(
    distribution: tfd.Distribution, manners: type, **attributes: Any
) -> tfd.Distribution:
    if isinstance(distribution, _Seeded):
        distribution = distribution.tensor_distribution
    # A copy, since a function may return the same distribution at each call.
    # The attributes are copied, since some classes of TFP refuse `copy.copy`.
    family: Any = type(distribution)
    result: Any = object.__new__(_subclass(manners, family))
    vars(result).update(vars(distribution), **attributes)
    return result


def seeded(distribution: tfd.Distribution, seed: Any) -> tfd.Distribution:
    """A copy of a distribution whose draws need no seed.

    Args:
        distribution: any.
        seed: of draws for which none is given; see `to_tensor`.

    Returns:
        A distribution of a subclass.
    """
    return _copy(distribution, _Seeded, _seed=seed)


def tensor_like(
    distribution: tfd.Distribution, value: Callable[[], Tensor], seed: Any
) -> tfd.Distribution:
    """A copy of a distribution that is a tensor as well.

    It has the methods by which TensorFlow, JAX and numpy turn an object into an
    array, operators, `shape` and `numpy()`.

    Args:
        distribution: any.
        value: what gives the tensor, the same each time.
        seed: of draws for which none is given; see `to_tensor`.

    Returns:
        A distribution of a subclass; `tensor_distribution` is the one given.
    """
    return _copy(distribution, _TensorLike, _tensor=value, _seed=seed)
