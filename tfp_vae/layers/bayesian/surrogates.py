"""What posteriors and priors of weights are made by, unless users say so."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "MEAN_FIELD",
    "POINT",
    "DefaultLocScale",
    "DefaultMeanFieldNormal",
    "default_loc_scale_fn",
    "default_mean_field_normal_fn",
    "default_multivariate_normal_fn",
]

# Where both begin, as in `tfp.layers`: softplus(-3) is 0.05.
_LOC = keras.initializers.RandomNormal(stddev=0.1)
_UNTRANSFORMED_SCALE = keras.initializers.RandomNormal(mean=-3.0, stddev=0.1)

_SERIALIZED = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


@keras.saving.register_keras_serializable("tfp_vae")
class DefaultLocScale:
    """What `default_loc_scale_fn` returns; see there."""

    def __init__(
        self,
        is_singular: bool = False,
        loc_initializer: Any = _LOC,
        untransformed_scale_initializer: Any = _UNTRANSFORMED_SCALE,
        loc_regularizer: Any = None,
        untransformed_scale_regularizer: Any = None,
        loc_constraint: Any = None,
        untransformed_scale_constraint: Any = None,
    ) -> None:
        self.is_singular = is_singular
        self._kinds = {
            "loc_initializer": keras.initializers.get(loc_initializer),
            "untransformed_scale_initializer": keras.initializers.get(
                untransformed_scale_initializer
            ),
            "loc_regularizer": keras.regularizers.get(loc_regularizer),
            "untransformed_scale_regularizer": keras.regularizers.get(
                untransformed_scale_regularizer
            ),
            "loc_constraint": keras.constraints.get(loc_constraint),
            "untransformed_scale_constraint": keras.constraints.get(
                untransformed_scale_constraint
            ),
        }

    def loc_and_scale(
        self,
        dtype: str,
        shape: Any,
        name: str,
        trainable: bool,
        add_variable_fn: Callable[..., Tensor],
    ) -> tuple[Tensor, Tensor | None]:
        """The parameters, from weights that `add_variable_fn` makes."""

        def add(which: str) -> Tensor:
            return add_variable_fn(
                name=f"{name}_{which}",
                shape=shape,
                dtype=dtype,
                trainable=trainable,
                **{
                    kind: self._kinds[f"{which}_{kind}"] for kind in _SERIALIZED
                },
            )

        loc = add("loc")
        if self.is_singular:
            return loc, None
        # The smallest step of the dtype keeps a scale from 0.
        floor = np.finfo(dtype).eps
        return loc, softplus(add("untransformed_scale")) + float(floor)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.loc_and_scale(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "is_singular": self.is_singular,
            **{
                key: _SERIALIZED[key.rsplit("_", 1)[1]].serialize(value)
                if value is not None
                else None
                for key, value in self._kinds.items()
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_vae")
class DefaultMeanFieldNormal(DefaultLocScale):
    """What `default_mean_field_normal_fn` returns; see there."""

    def __call__(self, *args: Any, **kwargs: Any) -> tfd.Distribution:
        loc, scale = self.loc_and_scale(*args, **kwargs)
        elements = (
            tfd.Deterministic(loc) if scale is None else tfd.Normal(loc, scale)
        )
        return tfd.Independent(elements, len(loc.shape))


def default_loc_scale_fn(
    is_singular: bool = False,
    loc_initializer: Any = _LOC,
    untransformed_scale_initializer: Any = _UNTRANSFORMED_SCALE,
    loc_regularizer: Any = None,
    untransformed_scale_regularizer: Any = None,
    loc_constraint: Any = None,
    untransformed_scale_constraint: Any = None,
) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Makes a function that makes a location and a scale of two weights.

    ```none
    loc = w1,    scale = eps + softplus(w2),    eps: of the dtype
    ```

    Args:
        is_singular: whether the scale is None, and only w1 is made.
        loc_initializer: of w1, by default `RandomNormal(stddev=0.1)`.
        untransformed_scale_initializer: of w2, by default
            `RandomNormal(mean=-3, stddev=0.1)`: a scale of 0.05.
        loc_regularizer: of w1, or None.
        untransformed_scale_regularizer: of w2, or None.
        loc_constraint: of w1, or None.
        untransformed_scale_constraint: of w2, or None.

    Returns:
        A function of `(dtype, shape, name, trainable, add_variable_fn)` to
        `(loc, scale)`, for a `kernel_posterior_fn` of your own.
    """
    return DefaultLocScale(
        is_singular,
        loc_initializer,
        untransformed_scale_initializer,
        loc_regularizer,
        untransformed_scale_regularizer,
        loc_constraint,
        untransformed_scale_constraint,
    )


def default_mean_field_normal_fn(
    is_singular: bool = False,
    loc_initializer: Any = _LOC,
    untransformed_scale_initializer: Any = _UNTRANSFORMED_SCALE,
    loc_regularizer: Any = None,
    untransformed_scale_regularizer: Any = None,
    loc_constraint: Any = None,
    untransformed_scale_constraint: Any = None,
) -> Callable[..., tfd.Distribution]:
    """Makes a function that makes a trainable `Independent(Normal)`.

    Args:
        is_singular: whether it is a `Deterministic` instead.
        loc_initializer: see `default_loc_scale_fn`, as all others.
        untransformed_scale_initializer: likewise.
        loc_regularizer: likewise.
        untransformed_scale_regularizer: likewise.
        loc_constraint: likewise.
        untransformed_scale_constraint: likewise.

    Returns:
        A function of `(dtype, shape, name, trainable, add_variable_fn)` to a
        distribution over `shape`, for `kernel_posterior_fn` and the like. It is
        saved with the layer.
    """
    return DefaultMeanFieldNormal(
        is_singular,
        loc_initializer,
        untransformed_scale_initializer,
        loc_regularizer,
        untransformed_scale_regularizer,
        loc_constraint,
        untransformed_scale_constraint,
    )


@keras.saving.register_keras_serializable("tfp_vae")
def default_multivariate_normal_fn(
    dtype: str,
    shape: Any,
    name: str,
    trainable: bool,
    add_variable_fn: Callable[..., Tensor],
) -> tfd.Distribution:
    """The standard normal distribution over tensors of a shape.

    Args:
        dtype: of the draws.
        shape: of a draw.
        name: not used.
        trainable: not used.
        add_variable_fn: not used.

    Returns:
        `Independent(Normal(0, 1))` over `shape`.
    """
    del name, trainable, add_variable_fn
    zeros = ops.zeros(tuple(shape), dtype)
    return tfd.Independent(
        tfd.Normal(zeros, ops.ones((), dtype)), len(tuple(shape))
    )


#: The posteriors of a kernel and of a bias, unless users say so.
MEAN_FIELD = default_mean_field_normal_fn()
POINT = default_mean_field_normal_fn(is_singular=True)
