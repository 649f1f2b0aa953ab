"""`tfp.layers` on Keras 3, name for name: `import tfp_vae.tfp_layers as tfpl`.

The layers of `tfp_vae.layers` with the defaults and the manners of the
originals: a distribution is a tensor as well, by default a draw;
`validate_args` and `sample_dtype`; `new`, which a subclass may override.
`docs/moving.md` has what differs.
"""

import inspect
from typing import Any

import keras
from keras import ops

from tfp_vae import layers
from tfp_vae.layers import (
    BlockwiseInitializer,
    Convolution1DFlipout,
    Convolution1DReparameterization,
    Convolution2DFlipout,
    Convolution2DReparameterization,
    Convolution3DFlipout,
    Convolution3DReparameterization,
    DenseFlipout,
    DenseLocalReparameterization,
    DenseReparameterization,
    DenseVariational,
    KLDivergenceAddLoss,
    KLDivergenceRegularizer,
    VariableLayer,
    default_loc_scale_fn,
    default_mean_field_normal_fn,
    default_multivariate_normal_fn,
)
from tfp_vae.layers.sample import convertible
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "AutoregressiveTransform",
    "BlockwiseInitializer",
    "CategoricalMixtureOfOneHotCategorical",
    "Convolution1DFlipout",
    "Convolution1DReparameterization",
    "Convolution2DFlipout",
    "Convolution2DReparameterization",
    "Convolution3DFlipout",
    "Convolution3DReparameterization",
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
    "DenseVariational",
    "DistributionLambda",
    "IndependentBernoulli",
    "IndependentLogistic",
    "IndependentNormal",
    "IndependentPoisson",
    "KLDivergenceAddLoss",
    "KLDivergenceRegularizer",
    "MixtureLogistic",
    "MixtureNormal",
    "MixtureSameFamily",
    "MultivariateNormalTriL",
    "OneHotCategorical",
    "VariableLayer",
    "VariationalGaussianProcess",
    "default_loc_scale_fn",
    "default_mean_field_normal_fn",
    "default_multivariate_normal_fn",
]

_register = keras.saving.register_keras_serializable("tfp_vae.tfp_layers")

# Distributions that another is made of, as TFP names them.
_INNER = ("distribution", "components_distribution")


def _changed(
    distribution: tfd.Distribution, validate_args: bool, dtype: Any
) -> tfd.Distribution:
    """A distribution, and those it is made of, with other arguments."""
    parameters = distribution.parameters
    changes = {
        name: _changed(parameters[name], validate_args, dtype)
        for name in _INNER
        if isinstance(parameters.get(name), tfd.Distribution)
    }
    if validate_args:
        changes["validate_args"] = True
    if dtype is not None and "dtype" in parameters:
        changes["dtype"] = dtype
    return distribution.copy(**changes)


class _Manners(layers.DistributionLayer):
    """The manners of the originals; goes before a layer of `tfp_vae.layers`.

    A subclass says in `order` which arguments may come by position, as in
    `tfp.layers`; all of the layer may come by name.
    """

    order: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__signature__ = inspect.signature(cls.__init__)
        if "order" in vars(cls):
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
            # The layer of `tfp_vae.layers` has the other defaults.
            strict: Any = cls.__mro__[2]
            known = inspect.signature(strict.__init__).parameters
            cls.__signature__ = inspect.Signature(
                [
                    inspect.Parameter(
                        name,
                        kind,
                        default=_DEFAULTS[name]
                        if name in _DEFAULTS
                        else known[name].default,
                    )
                    for name in cls.order
                ]
                + [rest]
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _by_name(type(self).__name__, self.order, args, kwargs)
        given.setdefault("convert_to_tensor_fn", tfd.Distribution.sample)
        self.validate_args = given.pop("validate_args", False)
        dtype = given.pop("sample_dtype", None)
        if dtype is not None:
            dtype = keras.backend.standardize_dtype(dtype)
        self.sample_dtype = dtype
        super().__init__(**given)

    @classmethod
    def new(
        cls, params: Tensor, *args: Any, name: str | None = None, **kwargs: Any
    ) -> tfd.Distribution:
        """The distribution that the layer makes of parameters.

        Args:
            params: as the layer is called with.
            *args: of the layer, without `convert_to_tensor_fn`.
            name: of no effect.
            **kwargs: likewise; `sample_dtype` is called `dtype`.

        Returns:
            A distribution.
        """
        order = [
            "dtype" if name == "sample_dtype" else name
            for name in cls.order
            if name != "convert_to_tensor_fn"
        ]
        given = _by_name(cls.__name__, order, args, kwargs)
        given["sample_dtype"] = given.pop("dtype", None)
        layer = cls(**given)
        return layer.made_of(ops.convert_to_tensor(params))

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        new: Any = type(self).new
        if getattr(new, "__func__", None) is vars(_Manners)["new"].__func__:
            return self.made_of(params)
        # A subclass has its own.
        given = {**vars(self), "dtype": self.sample_dtype}
        names = list(inspect.signature(new).parameters)[1:]
        return new(params, **{n: given[n] for n in names if n in given})

    def made_of(self, params: Tensor) -> tfd.Distribution:
        """What the layer itself makes of parameters.

        Args:
            params: as the layer is called with.

        Returns:
            A distribution.
        """
        distribution = super().make_distribution(params)
        if not self.validate_args and self.sample_dtype is None:
            return distribution
        dtype = self.sample_dtype
        if dtype is not None:
            dtype = ops.zeros((), dtype).dtype
        return _changed(distribution, self.validate_args, dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("validate_args", "sample_dtype"):
            if name in self.order:
                config[name] = getattr(self, name)
        return config


_DEFAULTS = {
    "convert_to_tensor_fn": tfd.Distribution.sample,
    "sample_dtype": None,
    "validate_args": False,
}


def _by_name(
    owner: str, order: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments by name, in place of some by position."""
    if len(args) > len(order) or set(order[: len(args)]) & set(kwargs):
        raise TypeError(
            f"{owner} takes {', '.join(order)} by position, each once. "
            f"Received: {len(args)} by position, and by name "
            f"{', '.join(kwargs) or 'none'}."
        )
    return {**dict(zip(order, args, strict=False)), **kwargs}


@_register
class DistributionLambda(_Manners, layers.DistributionLambda):
    """`tfp_vae.layers.DistributionLambda`, also a draw."""

    order = ("make_distribution_fn", "convert_to_tensor_fn")


@_register
class IndependentBernoulli(_Manners, layers.IndependentBernoulli):
    """`tfp_vae.layers.IndependentBernoulli`, also a draw."""

    order = (
        "event_shape",
        "convert_to_tensor_fn",
        "sample_dtype",
        "validate_args",
    )


@_register
class IndependentLogistic(_Manners, layers.IndependentLogistic):
    """`tfp_vae.layers.IndependentLogistic`, also a draw."""

    order = ("event_shape", "convert_to_tensor_fn", "validate_args")


@_register
class IndependentNormal(_Manners, layers.IndependentNormal):
    """`tfp_vae.layers.IndependentNormal`, also a draw."""

    order = ("event_shape", "convert_to_tensor_fn", "validate_args")


@_register
class IndependentPoisson(_Manners, layers.IndependentPoisson):
    """`tfp_vae.layers.IndependentPoisson`, also a draw."""

    order = ("event_shape", "convert_to_tensor_fn", "validate_args")


@_register
class MultivariateNormalTriL(_Manners, layers.MultivariateNormalTriL):
    """`tfp_vae.layers.MultivariateNormalTriL`, also a draw."""

    order = ("event_size", "convert_to_tensor_fn", "validate_args")


@_register
class OneHotCategorical(_Manners, layers.OneHotCategorical):
    """`tfp_vae.layers.OneHotCategorical`, also a draw."""

    order = (
        "event_size",
        "convert_to_tensor_fn",
        "sample_dtype",
        "validate_args",
    )


@_register
class CategoricalMixtureOfOneHotCategorical(
    _Manners, layers.CategoricalMixtureOfOneHotCategorical
):
    """`tfp_vae.layers.CategoricalMixtureOfOneHotCategorical`, also a draw."""

    order = (
        "event_size",
        "num_components",
        "convert_to_tensor_fn",
        "sample_dtype",
        "validate_args",
    )


@_register
class MixtureSameFamily(_Manners, layers.MixtureSameFamily):
    """`tfp_vae.layers.MixtureSameFamily`, also a draw."""

    order = (
        "num_components",
        "component_layer",
        "convert_to_tensor_fn",
        "validate_args",
    )


@_register
class MixtureNormal(_Manners, layers.MixtureNormal):
    """`tfp_vae.layers.MixtureNormal`, also a draw."""

    order = (
        "num_components",
        "event_shape",
        "convert_to_tensor_fn",
        "validate_args",
    )


@_register
class MixtureLogistic(_Manners, layers.MixtureLogistic):
    """`tfp_vae.layers.MixtureLogistic`, also a draw."""

    order = (
        "num_components",
        "event_shape",
        "convert_to_tensor_fn",
        "validate_args",
    )


@_register
class VariationalGaussianProcess(_Manners, layers.VariationalGaussianProcess):
    """`tfp_vae.layers.VariationalGaussianProcess`, also a draw."""

    order = (
        "num_inducing_points",
        "kernel_provider",
        "event_shape",
        "inducing_index_points_initializer",
        "unconstrained_observation_noise_variance_initializer",
        "variational_inducing_observations_scale_initializer",
        "mean_fn",
        "jitter",
        "convert_to_tensor_fn",
        "name",
    )


@_register
class AutoregressiveTransform(layers.AutoregressiveTransform):
    """`tfp_vae.layers.AutoregressiveTransform`, whose output is a draw as well.

    The network is a `tfp_vae.layers.AutoregressiveNetwork`; that of TFP is a
    layer of Keras 2.
    """

    def __init__(self, made: Any, **kwargs: Any) -> None:
        super().__init__(made, **kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def __call__(self, distribution: Any, **kwargs: Any) -> Any:
        output = super().__call__(distribution, **kwargs)
        if not isinstance(output, tfd.Distribution):
            return output
        return convertible(output, "sample", self.seed_generator)
