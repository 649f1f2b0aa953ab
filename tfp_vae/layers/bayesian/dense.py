"""Dense layers whose kernel and bias are drawn from posteriors."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.layers.bayesian.functions import exact_kl
from tfp_vae.layers.bayesian.surrogates import (
    MEAN_FIELD,
    POINT,
    default_multivariate_normal_fn,
)
from tfp_vae.layers.bayesian.uncertain_layer import (
    Flipout,
    Reparameterization,
    UncertainLayer,
    normal_of,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "DenseFlipout",
    "DenseLocalReparameterization",
    "DenseReparameterization",
]


class _UncertainDense(UncertainLayer):
    """The common part; the arguments are documented at each layer."""

    def __init__(
        self,
        units: int,
        activation: Any = None,
        activity_regularizer: Any = None,
        trainable: bool = True,
        kernel_posterior_fn: Callable[..., tfd.Distribution] = MEAN_FIELD,
        kernel_posterior_tensor_fn: Any = tfd.Distribution.sample,
        kernel_prior_fn: Callable[..., tfd.Distribution]
        | None = default_multivariate_normal_fn,
        kernel_divergence_fn: Callable[..., Tensor] | None = exact_kl,
        bias_posterior_fn: Callable[..., tfd.Distribution] | None = POINT,
        bias_posterior_tensor_fn: Any = tfd.Distribution.sample,
        bias_prior_fn: Callable[..., tfd.Distribution] | None = None,
        bias_divergence_fn: Callable[..., Tensor] | None = exact_kl,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            activation,
            activity_regularizer,
            {
                "kernel_posterior_fn": kernel_posterior_fn,
                "kernel_posterior_tensor_fn": kernel_posterior_tensor_fn,
                "kernel_prior_fn": kernel_prior_fn,
                "kernel_divergence_fn": kernel_divergence_fn,
                "bias_posterior_fn": bias_posterior_fn,
                "bias_posterior_tensor_fn": bias_posterior_tensor_fn,
                "bias_prior_fn": bias_prior_fn,
                "bias_divergence_fn": bias_divergence_fn,
            },
            seed,
            trainable=trainable,
            **kwargs,
        )
        self.units = check_positive_int("units", units)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f"The last dimension of the inputs of a {type(self).__name__} "
                f"is known. Received: inputs of shape {tuple(input_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: size})
        self.make_weights((size, self.units), (self.units,))

    def linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(inputs, kernel)

    def shapes_of_signs(
        self, shape: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Of the signs of the inputs and of the outputs.

        Args:
            shape: of the inputs.

        Returns:
            Two shapes.
        """
        return tuple(shape), (*shape[:-1], self.units)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tfp_vae")
class DenseReparameterization(Reparameterization, _UncertainDense):
    """A dense layer with an uncertain kernel, one draw for the batch.

    ```none
    outputs = activation(inputs W + b),    W ~ q,    loss += KL(q || p)
    ```

    Args:
        units: the width of the outputs.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        trainable: as in Keras.
        kernel_posterior_fn: makes q: a function of `(dtype, shape, name,
            trainable, add_variable_fn)` to a `tfd.Distribution` over `shape`,
            of variables that it asks `add_variable_fn` for. It is called at
            each use, so it may do with the variables what it likes. By default
            `default_mean_field_normal_fn()`.
        kernel_posterior_tensor_fn: what stands for q: a function of a
            distribution to a tensor, by default a draw;
            `tfd.Distribution.mean` takes the noise out.
        kernel_prior_fn: makes p, as q is made; by default the standard normal,
            `default_multivariate_normal_fn`. None: no divergence.
        kernel_divergence_fn: a function of q, p and the draw (None for local
            reparameterization) to what is added to the loss; by default
            KL(q || p) in nats, **not scaled**: take
            `losses.scaled_kl(num_examples)` beside a loss that is a mean over
            examples. None: no divergence.
        bias_posterior_fn: likewise for the bias; by default a point,
            `default_mean_field_normal_fn(is_singular=True)`. None: no bias.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise; by default None.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., size]`. There is noise at `training=False` too.

    Returns:
        `[B, ..., units]`.

    Raises:
        TypeError: for a posterior or a prior that is no distribution.
        ValueError: if it is not over the shape that it is told, or holds
            variables that Keras does not see.

    Example:
    ```python
    kl = losses.scaled_kl(len(x))
    model = tfp_vae.Sequential([
        DenseReparameterization(32, "relu", kernel_divergence_fn=kl),
        DenseReparameterization(2, kernel_divergence_fn=kl),
        IndependentNormal(1),
    ])
    ```

    Reference:
        Kingma, Welling. Auto-encoding variational Bayes. ICLR 2014.
        https://arxiv.org/abs/1312.6114
    """


@keras.saving.register_keras_serializable("tfp_vae")
class DenseLocalReparameterization(_UncertainDense):
    """A dense layer with an uncertain kernel, noise drawn at the outputs.

    ```none
    outputs = activation(h + b),    h ~ Normal(x M, sqrt(x**2 S**2))
    ```

    with M the means and S the scales of the kernel: another draw of the kernel
    for each example, as it were.

    Args:
        units: the width of the outputs.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        trainable: as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., size]`.

    Returns:
        `[B, ..., units]`.

    Raises:
        TypeError: also for a q that is not `Independent(Normal)`.
        ValueError: see `DenseReparameterization`.

    Reference:
        Kingma, Salimans, Welling. Variational dropout and the local
        reparameterization trick. NeurIPS 2015.
        https://arxiv.org/abs/1506.02557
    """

    def apply_kernel(
        self, inputs: Tensor, posterior: tfd.Distribution
    ) -> tuple[Tensor, Tensor | None]:
        normal = normal_of(self, posterior)
        # In the precision of the variables: squares leave the range of half
        # precision.
        x = ops.cast(inputs, self.variable_dtype)
        variance = ops.matmul(ops.square(x), ops.square(normal.scale))
        # The gradient of a root of 0 is infinite, where all inputs are 0.
        tiny = float(np.finfo(self.variable_dtype).tiny)
        outputs = self._draw(
            "kernel",
            tfd.Normal(ops.matmul(x, normal.loc), ops.sqrt(variance + tiny)),
        )
        return ops.cast(outputs, self.compute_dtype), None


@keras.saving.register_keras_serializable("tfp_vae")
class DenseFlipout(Flipout, _UncertainDense):
    """A dense layer with an uncertain kernel, nearly independent by example.

    ```none
    outputs = activation(x M + ((x r) D) s + b),    D ~ Normal(0, S)
    ```

    with M the means and S the scales of the kernel, one D for the batch and
    signs r and s of each example. The gradient has a lower variance than with
    one draw for the batch, for twice the work.

    Args:
        units: the width of the outputs.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        trainable: as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., size]`.

    Returns:
        `[B, ..., units]`.

    Raises:
        TypeError: also for a q that is not `Independent(Normal)`.
        ValueError: see `DenseReparameterization`.

    Reference:
        Wen, Vicol, Ba, Tran, Grosse. Flipout: efficient pseudo-independent
        weight perturbations on mini-batches. ICLR 2018.
        https://arxiv.org/abs/1803.04386
    """
