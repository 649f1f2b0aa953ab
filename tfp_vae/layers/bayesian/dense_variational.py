"""A dense layer whose kernel and bias are one draw from a joint posterior."""

import numbers
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.distributions import kl_divergence
from tfp_vae.layers.bayesian.functions import decode, encode, kl_of, total
from tfp_vae.layers.bayesian.weights import DTypeName
from tfp_vae.layers.distribution_layer import check_no_variables
from tfp_vae.layers.sample import to_tensor
from tfp_vae.substrate import Tensor, tfd

__all__ = ["DenseVariational"]

_FUNCTIONS = ("make_posterior_fn", "make_prior_fn")


@keras.saving.register_keras_serializable("tfp_vae")
class DenseVariational(keras.layers.Layer):
    """A dense layer whose weights are one vector of a joint distribution.

    ```none
    [W, b] ~ q(.|x)    outputs = activation(x W + b)
    loss += kl_weight * KL(q || p),    nats
    KL(q || p) ~ log q(W, b) - log p(W, b)    unless kl_use_exact
    ```

    Both distributions may hold weights that train: a prior that trains is
    empirical Bayes.

    Args:
        units: the width of the outputs.
        make_posterior_fn: makes q: a function of `(kernel_size, bias_size,
            dtype)` to a layer, a model or a function that is called with the
            inputs and returns a `tfd.Distribution` over vectors of
            `kernel_size + bias_size`, usually a `keras.Sequential` of a
            `VariableLayer` and a distribution layer.
        make_prior_fn: makes p, likewise.
        kl_weight: a number, or a `keras.Variable`; None is 1. **Beside a loss
            that is a mean over examples it is 1 / number of examples.**
        kl_use_exact: whether the closed form is taken, or the estimate by the
            draw that was used.
        activation: a function, its name, or None.
        use_bias: whether there is a bias.
        activity_regularizer: of the outputs, as in Keras.
        seed: an int for noise that can be repeated where q is no tensor by
            itself, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., size]`. There is noise at `training=False` too.

    Returns:
        `[B, ..., units]`.

    Raises:
        TypeError: if what was made returns no distribution.
        ValueError: if it is over vectors of another size, or holds variables
            that Keras does not see; if `kl_weight` is no number.

    Example:
    ```python
    def posterior(kernel_size, bias_size, dtype=None):
        size = kernel_size + bias_size
        return keras.Sequential([
            VariableLayer(IndependentNormal.params_size(size), dtype=dtype),
            IndependentNormal(size),
        ])

    def prior(kernel_size, bias_size, dtype=None):
        zeros = keras.ops.zeros(kernel_size + bias_size, dtype)
        return lambda x: tfd.Independent(tfd.Normal(zeros, 1.0), 1)

    DenseVariational(1, posterior, prior, kl_weight=1 / num_examples)
    ```

    Reference:
        Blundell, Cornebise, Kavukcuoglu, Wierstra. Weight uncertainty in neural
        networks. ICML 2015. https://arxiv.org/abs/1505.05424
    """

    def __init__(
        self,
        units: int,
        make_posterior_fn: Callable[..., Any],
        make_prior_fn: Callable[..., Any],
        kl_weight: Any = None,
        kl_use_exact: bool = False,
        activation: Any = None,
        use_bias: bool = True,
        activity_regularizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = check_positive_int("units", units)
        for name, function in (
            ("make_posterior_fn", make_posterior_fn),
            ("make_prior_fn", make_prior_fn),
        ):
            if not callable(function):
                raise TypeError(
                    f"{name} is a function of (kernel_size, bias_size, dtype). "
                    f"Received: {function!r}."
                )
        if not (
            kl_weight is None
            or isinstance(kl_weight, (numbers.Real, keras.Variable))
        ):
            raise ValueError(
                "kl_weight is a number, a keras.Variable, or None for 1: "
                "1 / number of examples beside a loss that is a mean over "
                f"them. Received: kl_weight={kl_weight!r}."
            )
        self.make_posterior_fn = make_posterior_fn
        self.make_prior_fn = make_prior_fn
        self.kl_weight = kl_weight
        self.kl_use_exact = kl_use_exact
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                "The last dimension of the inputs of a DenseVariational is "
                f"known. Received: inputs of shape {tuple(input_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: size})
        sizes = (size * self.units, self.units if self.use_bias else 0)
        dtype = DTypeName(self.variable_dtype)
        self._posterior = self.make_posterior_fn(*sizes, dtype)
        self._prior = self.make_prior_fn(*sizes, dtype)
        for made in (self._posterior, self._prior):
            if isinstance(made, keras.layers.Layer) and not made.built:
                # Now, so that its weights are there to be loaded.
                made(keras.KerasTensor(input_shape, self.compute_dtype))

    def posterior(self, inputs: Tensor) -> tfd.Distribution:
        """q, for these inputs.

        Args:
            inputs: as the layer is called with.

        Returns:
            A distribution over vectors: the kernel, row by row, and the bias.
        """
        return self._checked(self._posterior(inputs), "posterior")

    def prior(self, inputs: Tensor) -> tfd.Distribution:
        """p, for these inputs.

        Args:
            inputs: as the layer is called with.

        Returns:
            A distribution over vectors: the kernel, row by row, and the bias.
        """
        return self._checked(self._prior(inputs), "prior")

    def _checked(self, made: Any, role: str) -> tfd.Distribution:
        size = self.input_spec.axes[-1] + self.use_bias
        if not isinstance(made, tfd.Distribution):
            raise TypeError(
                f"What make_{role}_fn returns is called with the inputs and "
                "gives a tfp.distributions object of the running backend. "
                f"Received: {type(made).__name__}."
            )
        check_no_variables(made, f"the {role}")
        event = tuple(made.event_shape)
        if event != (size * self.units,):
            raise ValueError(
                f"The {role} is a distribution over vectors of kernel_size + "
                f"bias_size = {size * self.units} numbers. Received: event "
                f"shape {event}, batch shape {tuple(made.batch_shape)}. Wrap "
                "independent numbers in tfd.Independent(..., 1)."
            )
        return made

    def divergence(
        self, q: tfd.Distribution, p: tfd.Distribution, weights: Tensor
    ) -> Tensor:
        """What is added to the loss.

        Args:
            q: the posterior.
            p: the prior.
            weights: the draw from q that was used.

        Returns:
            A scalar, nats times `kl_weight`.
        """
        kl = total(
            kl_divergence(q, p)
            if self.kl_use_exact
            else q.log_prob(weights) - p.log_prob(weights)
        )
        if self.kl_weight is None:
            return kl
        return kl * ops.cast(self.kl_weight, kl.dtype)

    def divergences(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """What is added to the loss, for inputs of 0.

        Returns:
            For `"weights"` what is added, and the exact KL divergence in nats,
            or None if it is not known.
        """
        inputs = ops.zeros((1, self.input_spec.axes[-1]), self.compute_dtype)
        q, p = self.posterior(inputs), self.prior(inputs)
        kl = kl_of(q, p)
        if kl is None:
            return {"weights": (self.divergence(q, p, self._draw(q)), None)}
        weight = 1.0 if self.kl_weight is None else self.kl_weight
        return {"weights": (kl * ops.cast(weight, kl.dtype), kl)}

    def _draw(self, q: tfd.Distribution) -> Tensor:
        return to_tensor(q, None, self.seed_generator)

    def call(self, inputs: Tensor) -> Tensor:
        q, p = self.posterior(inputs), self.prior(inputs)
        weights = self._draw(q)
        self.add_loss(self.divergence(q, p, weights))
        weights = ops.cast(weights, inputs.dtype)
        size = self.input_spec.axes[-1]
        kernel = ops.reshape(
            weights[..., : size * self.units],
            (*ops.shape(weights)[:-1], size, self.units),
        )
        outputs = ops.matmul(inputs, kernel)
        if self.use_bias:
            bias = weights[..., size * self.units :]
            # Several draws at once have a dimension before the batch.
            outputs += bias[..., None, :] if len(bias.shape) > 1 else bias
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        weight = self.kl_weight
        return {
            **super().get_config(),
            "units": self.units,
            **{
                name: encode(getattr(self, name), f"A {name}")
                for name in _FUNCTIONS
            },
            "kl_weight": None if weight is None else float(weight),
            "kl_use_exact": self.kl_use_exact,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "activity_regularizer": keras.regularizers.serialize(
                self.activity_regularizer
            ),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DenseVariational":
        return cls(**decode(config, _FUNCTIONS, cls.__name__))
