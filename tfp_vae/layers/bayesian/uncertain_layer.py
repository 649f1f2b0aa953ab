"""The base of layers whose kernel and bias are drawn from posteriors."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.layers.bayesian.functions import (
    decode,
    encode,
    kl_of,
    total,
)
from tfp_vae.layers.bayesian.weights import UncertainWeight
from tfp_vae.layers.sample import (
    canonical_conversion,
    serialize_conversion,
    to_tensor,
)
from tfp_vae.layers.tensor_like import seeded
from tfp_vae.substrate import Tensor, samplers, tfd, tfp_seed

__all__ = ["UncertainLayer"]

_FUNCTIONS = (
    "kernel_posterior_fn",
    "kernel_posterior_tensor_fn",
    "kernel_prior_fn",
    "kernel_divergence_fn",
    "bias_posterior_fn",
    "bias_posterior_tensor_fn",
    "bias_prior_fn",
    "bias_divergence_fn",
)


class UncertainLayer(keras.layers.Layer):
    """The common part of the dense and the convolutional layers.

    A subclass says which shapes kernel and bias have, in `build`, and how a
    kernel is applied: `linear`. How the noise enters is one of the three
    estimators, which are mixins before it.

    Args:
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        functions: the eight functions by name.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.
    """

    kernel_posterior_fn: Callable[..., tfd.Distribution]

    def __init__(
        self,
        activation: Any,
        activity_regularizer: Any,
        functions: dict[str, Any],
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = keras.activations.get(activation)
        for name, function in functions.items():
            if name.endswith("tensor_fn"):
                function = canonical_conversion(function)
            if not (function is None or callable(function)) and not isinstance(
                function, str
            ):
                raise TypeError(
                    f"{name} of a {type(self).__name__} is a function or None. "
                    f"Received: {function!r}."
                )
            setattr(self, name, function)
        if self.kernel_posterior_fn is None:
            raise ValueError(
                "A layer with uncertain weights has a posterior of its kernel. "
                "Received: kernel_posterior_fn=None. For a plain kernel take "
                "default_mean_field_normal_fn(is_singular=True)."
            )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._uncertain: dict[str, UncertainWeight] = {}

    def make_weights(
        self, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...]
    ) -> None:
        """Makes the variables, in the order of `tfp.layers`.

        Args:
            kernel_shape: of the kernel.
            bias_shape: of the bias.
        """
        for part, shape in (("kernel", kernel_shape), ("bias", bias_shape)):
            for role in ("posterior", "prior"):
                make = getattr(self, f"{part}_{role}_fn")
                name = f"{part}_{role}"
                if make is not None:
                    self._uncertain[name] = UncertainWeight(
                        self, make, shape, name
                    )

    def _distribution(self, name: str) -> tfd.Distribution | None:
        weight = self._uncertain.get(name)
        return None if weight is None else weight()

    @property
    def kernel_posterior(self) -> tfd.Distribution:
        """The distribution of the kernel as it is now; a new one each time."""
        return self._distribution("kernel_posterior")

    @property
    def kernel_prior(self) -> tfd.Distribution | None:
        """The prior of the kernel, or None."""
        return self._distribution("kernel_prior")

    @property
    def bias_posterior(self) -> tfd.Distribution | None:
        """The distribution of the bias as it is now, or None."""
        return self._distribution("bias_posterior")

    @property
    def bias_prior(self) -> tfd.Distribution | None:
        """The prior of the bias, or None."""
        return self._distribution("bias_prior")

    def divergences(
        self, tensors: dict[str, Tensor] | None = None
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """What is added to the loss, of each part that has a prior.

        Args:
            tensors: the draws of kernel and bias that were used, by default
                others.

        Returns:
            For `"kernel"` and `"bias"` what the divergence function gives, and
            the exact KL divergence in nats, or None if it is not known.
        """
        found = {}
        for part in ("kernel", "bias"):
            q = self._distribution(f"{part}_posterior")
            p = self._distribution(f"{part}_prior")
            function = getattr(self, f"{part}_divergence_fn")
            if q is None or p is None or function is None:
                continue
            draw = self._draw(part, q) if tensors is None else tensors[part]
            seeds = self.seed_generator
            value = function(seeded(q, seeds), seeded(p, seeds), draw)
            found[part] = (total(value), None if tensors else kl_of(q, p))
        return found

    def _draw(self, part: str, distribution: tfd.Distribution) -> Tensor:
        """The tensor that stands for the distribution of the kernel or bias."""
        function = getattr(self, f"{part}_posterior_tensor_fn")
        return to_tensor(distribution, function, self.seed_generator)

    def linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Applies a kernel: each subclass its own way.

        Args:
            inputs: `[B, ...]`.
            kernel: of the dtype of the inputs.

        Returns:
            The outputs, without bias and activation.
        """
        raise NotImplementedError

    def add_bias(self, outputs: Tensor, bias: Tensor) -> Tensor:
        """Adds a bias: here along the last axis.

        Args:
            outputs: what `linear` returned.
            bias: a vector.

        Returns:
            A tensor like the outputs.
        """
        return outputs + bias

    def apply_kernel(
        self, inputs: Tensor, posterior: tfd.Distribution
    ) -> tuple[Tensor, Tensor | None]:
        """Applies an uncertain kernel: each estimator its own way.

        Args:
            inputs: `[B, ...]`.
            posterior: of the kernel.

        Returns:
            The outputs, and the kernel that was drawn, if one was.
        """
        raise NotImplementedError

    def call(self, inputs: Tensor) -> Tensor:
        outputs, kernel = self.apply_kernel(inputs, self.kernel_posterior)
        bias, posterior = None, self.bias_posterior
        if posterior is not None:
            bias = self._draw("bias", posterior)
            outputs = self.add_bias(outputs, ops.cast(bias, outputs.dtype))
        for value, _ in self.divergences(
            {"kernel": kernel, "bias": bias}
        ).values():
            self.add_loss(value)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        functions = {
            name: serialize_conversion(getattr(self, name), f"A {name}")
            if name.endswith("tensor_fn")
            else encode(getattr(self, name), f"A {name}")
            for name in _FUNCTIONS
        }
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "activity_regularizer": keras.regularizers.serialize(
                self.activity_regularizer
            ),
            **functions,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "UncertainLayer":
        return cls(**decode(config, _FUNCTIONS, cls.__name__))


class Reparameterization:
    """Draws one kernel for the batch."""

    def apply_kernel(
        self: Any, inputs: Tensor, posterior: tfd.Distribution
    ) -> tuple[Tensor, Tensor | None]:
        kernel = self._draw("kernel", posterior)
        return self.linear(inputs, ops.cast(kernel, inputs.dtype)), kernel


class Flipout:
    """Draws one perturbation, with other signs for each example."""

    def apply_kernel(
        self: Any, inputs: Tensor, posterior: tfd.Distribution
    ) -> tuple[Tensor, Tensor | None]:
        normal = normal_of(self, posterior)
        perturbation = self._draw(
            "kernel", tfd.Normal(ops.zeros_like(normal.loc), normal.scale)
        )
        signs_in, signs_out = map(
            self._signs, self.shapes_of_signs(ops.shape(inputs))
        )
        signs_in = ops.cast(signs_in, inputs.dtype)
        outputs = self.linear(inputs, ops.cast(normal.loc, inputs.dtype))
        perturbed = self.linear(
            inputs * signs_in, ops.cast(perturbation, inputs.dtype)
        )
        outputs += perturbed * ops.cast(signs_out, outputs.dtype)
        # With signs of 1 this is the kernel, a draw like any other.
        return outputs, normal.loc + perturbation

    def _signs(self: Any, shape: tuple[Any, ...]) -> Tensor:
        uniform = samplers.uniform(shape, seed=tfp_seed(self.seed_generator))
        return ops.where(uniform < 0.5, -1.0, 1.0)


def normal_of(
    layer: keras.layers.Layer, posterior: tfd.Distribution
) -> tfd.Normal:
    """The elements of a posterior that is `Independent(Normal)`.

    Args:
        layer: that needs it, for the message.
        posterior: of its kernel.

    Returns:
        A `tfd.Normal`.

    Raises:
        TypeError: if the posterior is another.
    """
    normal = getattr(posterior, "distribution", None)
    if not isinstance(posterior, tfd.Independent) or not isinstance(
        normal, tfd.Normal
    ):
        raise TypeError(
            f"{type(layer).__name__} needs a kernel_posterior_fn that returns "
            "a tfd.Independent(tfd.Normal), as the mean and the scale of each "
            f"weight enter on their own. Received: {posterior}. For any other "
            "posterior take the layer with Reparameterization in its name."
        )
    return normal
