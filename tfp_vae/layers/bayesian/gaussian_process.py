"""A variational Gaussian process as a layer."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.bayesian.functions import decode, encode
from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.substrate import Tensor, tfb, tfd

__all__ = ["VariationalGaussianProcess"]

_LITTLE_NOISE = keras.initializers.Constant(-10.0)


@keras.saving.register_keras_serializable("tfp_vae")
class VariationalGaussianProcess(DistributionLayer):
    """A Gaussian process over the rows of the batch, by inducing points.

    ```none
    f ~ GP(mean, kernel),   u = f(z) ~ Normal(m, S S'),   y = f(x) + noise
    ```

    with inducing points z, m and S that train, and the noise variance
    `softplus(weight)`. The rows of a batch depend on each other: the
    distribution has batch shape `[]` over `[N, *event_shape]`. Train with its
    `variational_loss`, minus the bound of Titsias and Hensman et al.:

    ```python
    loss=lambda y, p: p.variational_loss(y, kl_weight=batch_size / num_examples)
    ```

    Args:
        num_inducing_points: how many.
        kernel_provider: a layer whose property `kernel` makes a TFP kernel of
            its weights (`tfp.math.psd_kernels`), at each use.
        event_shape: int or a tuple of one int, how many independent functions
            are modelled.
        inducing_index_points_initializer: of z, `[*event_shape, M, features]`;
            by default Keras' own. Scatter them among the data.
        unconstrained_observation_noise_variance_initializer: of the weight
            whose softplus is the noise variance; None for no noise.
        variational_inducing_observations_scale_initializer: of S, by default
            1e-5 times the identity.
        mean_fn: a function of index points to the mean; by default a number
            that trains.
        jitter: what is added to the diagonal of covariances.
        convert_to_tensor_fn: see `DistributionLayer`.
        name: of the layer.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[N, features]`.

    Returns:
        A distribution over `[N, *event_shape]` with two methods more:
        `variational_loss(y, kl_weight=1.0)` and
        `surrogate_posterior_kl_divergence_prior()`, in nats.

    Raises:
        TypeError: if the provider has no kernel.
        ValueError: if a number is out of range.

    Reference:
        Hensman, Fusi, Lawrence. Gaussian processes for big data. UAI 2013.
        https://arxiv.org/abs/1309.6835
    """

    def __init__(
        self,
        num_inducing_points: int,
        kernel_provider: keras.layers.Layer,
        event_shape: Any = (1,),
        inducing_index_points_initializer: Any = None,
        unconstrained_observation_noise_variance_initializer: Any = (
            _LITTLE_NOISE
        ),
        variational_inducing_observations_scale_initializer: Any = None,
        mean_fn: Callable[[Tensor], Tensor] | None = None,
        jitter: float = 1e-6,
        convert_to_tensor_fn: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not hasattr(type(kernel_provider), "kernel"):
            raise TypeError(
                "The kernel_provider is a layer with a property `kernel` that "
                "makes a kernel of tfp.math.psd_kernels. Received: "
                f"{kernel_provider!r}."
            )
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = kernel_provider.variable_dtype
        super().__init__(event_shape, convert_to_tensor_fn, name=name, **kwargs)
        self.num_inducing_points = check_positive_int(
            "num_inducing_points", num_inducing_points
        )
        self.kernel_provider = kernel_provider
        get = keras.initializers.get
        self.points_initializer = get(inducing_index_points_initializer)
        self.noise_initializer = get(
            unconstrained_observation_noise_variance_initializer
        )
        self.scale_initializer = get(
            variational_inducing_observations_scale_initializer
        )
        self.mean_fn = mean_fn
        self.jitter = float(jitter)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.kernel_provider.built:
            self.kernel_provider.build(input_shape)
        features = input_shape[-self.kernel_provider.kernel.feature_ndims :]
        batch, count = self.event_shape, self.num_inducing_points
        if self.mean_fn is None:
            self.mean = self.add_weight(
                shape=(), initializer="zeros", name="mean"
            )
        if self.noise_initializer is not None:
            self.raw_noise_variance = self.add_weight(
                shape=(),
                initializer=self.noise_initializer,
                name="observation_noise_variance",
            )
        self.inducing_index_points = self.add_weight(
            shape=(*batch, count, *features),
            initializer=self.points_initializer,
            name="inducing_index_points",
        )
        self.variational_inducing_observations_loc = self.add_weight(
            shape=(*batch, count),
            initializer="zeros",
            name="variational_inducing_observations_loc",
        )
        self.variational_inducing_observations_scale = self.add_weight(
            shape=(*batch, count, count),
            initializer=self.scale_initializer or _small_identity,
            name="variational_inducing_observations_scale",
        )

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        def value(variable: keras.Variable) -> Tensor:
            return ops.cast(variable, variable.dtype)

        noise: Any = ops.zeros((), self.variable_dtype)
        if self.noise_initializer is not None:
            noise = softplus(value(self.raw_noise_variance))
        mean_fn = self.mean_fn
        if mean_fn is None:
            mean = value(self.mean)

            def mean_fn(points: Tensor) -> Tensor:
                return mean

        process = tfd.VariationalGaussianProcess(
            kernel=self.kernel_provider.kernel,
            index_points=params,
            inducing_index_points=value(self.inducing_index_points),
            variational_inducing_observations_loc=value(
                self.variational_inducing_observations_loc
            ),
            variational_inducing_observations_scale=value(
                self.variational_inducing_observations_scale
            ),
            mean_fn=mean_fn,
            observation_noise_variance=noise,
            jitter=self.jitter,
        )
        transpose = tfb.Transpose(rightmost_transposed_ndims=2)
        distribution = tfd.TransformedDistribution(
            tfd.Independent(process, len(self.event_shape)), transpose
        )

        def variational_loss(y: Tensor, kl_weight: Any = 1.0) -> Tensor:
            """Minus the bound; see `tfd.VariationalGaussianProcess`."""
            loss = process.variational_loss(
                transpose.forward(ops.convert_to_tensor(y)), kl_weight=kl_weight
            )
            return ops.sum(loss)

        distribution.variational_loss = variational_loss
        distribution.surrogate_posterior_kl_divergence_prior = (
            process.surrogate_posterior_kl_divergence_prior
        )
        return distribution

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        ndims = self.kernel_provider.kernel.feature_ndims
        return (*input_shape[:-ndims], *self.event_shape)

    def get_config(self) -> dict[str, Any]:
        def serialized(initializer: Any) -> Any:
            if initializer is None:
                return None
            return keras.initializers.serialize(initializer)

        return {
            **super().get_config(),
            "num_inducing_points": self.num_inducing_points,
            "kernel_provider": keras.saving.serialize_keras_object(
                self.kernel_provider
            ),
            "inducing_index_points_initializer": serialized(
                self.points_initializer
            ),
            "unconstrained_observation_noise_variance_initializer": serialized(
                self.noise_initializer
            ),
            "variational_inducing_observations_scale_initializer": serialized(
                self.scale_initializer
            ),
            "mean_fn": encode(self.mean_fn, "A mean_fn"),
            "jitter": self.jitter,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any]
    ) -> "VariationalGaussianProcess":
        config = decode(config, ("mean_fn",), cls.__name__)
        config["kernel_provider"] = keras.saving.deserialize_keras_object(
            config["kernel_provider"]
        )
        return cls(**config)


def _small_identity(shape: Any, dtype: Any = None) -> Tensor:
    identity = np.broadcast_to(1e-5 * np.eye(shape[-1]), tuple(shape))
    return ops.convert_to_tensor(identity, dtype)
