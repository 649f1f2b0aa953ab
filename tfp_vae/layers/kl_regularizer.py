"""The KL divergence as a term of any model's loss, counted once."""

import numbers
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions import kl_divergence
from tfp_vae.distributions.serialization import (
    deserialize,
    deserialize_function,
    serialize,
    serialize_function,
)
from tfp_vae.layers.distribution_layer import check_no_variables
from tfp_vae.layers.sample import (
    OnDistribution,
    canonical_conversion,
    serialize_conversion,
    to_tensor,
)
from tfp_vae.reduction import mean
from tfp_vae.substrate import Tensor, tfd

__all__ = ["KLDivergenceAddLoss", "KLDivergenceRegularizer"]


@keras.saving.register_keras_serializable("tfp_vae")
class KLDivergenceRegularizer(keras.regularizers.Regularizer):
    """Adds a KL divergence to the loss, from inside a distribution layer.

    ```none
    weight * mean over the batch of KL(a || b),      nats per example
    KL(a || b) ~ log a(z) - log b(z),    z ~ a       unless use_exact_kl
    ```

    a is what the layer returns. The divergence is added once: a mean over
    examples, the first dimension of the batch, and a sum over further
    dimensions. With the mean negative log likelihood as the loss of a model,
    the total is minus the ELBO. (`tfp.layers` counts it twice where a model is
    built from its layers, and its `KLDivergenceAddLoss` sums an exact
    divergence over the batch.)

    Args:
        distribution_b: b: a `tfd.Distribution` over the same event; a layer
            that returns one when it is called with None (it trains with the
            model); or a function without arguments that returns one, which must
            be registered to be saved.
        use_exact_kl: whether to take the closed form, or an estimate.
        test_points_reduce_axis: of no effect; accepted as in `tfp.layers`. Test
            points are averaged.
        test_points_fn: how the points z of the estimate are drawn: a function
            from a (and optionally a `seed`) to a tensor, `[B, *event]` or with
            leading dimensions of samples, such as
            `lambda a, seed: a.sample(10, seed=seed)`; by default one draw.
        weight: a number, or a `keras.Variable` that a callback changes; None
            is 1.

    Call arguments:
        distribution_a: a, of batch shape `[B, ...]`.

    Returns:
        A scalar, in nats per example.

    Raises:
        TypeError: if `distribution_b` is none of these or returns something
            else, or if a is a tensor.
        ValueError: if a and b are over different events; if b holds variables
            that Keras would not see; if `weight` is not a number; or if no
            gradient can pass through draws from a.
        NotImplementedError: with `use_exact_kl`, if no closed form is known.

    Example:
    ```python
    prior = tfd.MultivariateNormalDiag(keras.ops.zeros(2))
    encoder = keras.Sequential([
        keras.layers.Dense(MultivariateNormalTriL.params_size(2)),
        MultivariateNormalTriL(
            2,
            convert_to_tensor_fn="sample",
            activity_regularizer=KLDivergenceRegularizer(prior),
        ),
    ])
    ```

    References:
        https://github.com/tensorflow/probability/issues/599
        https://github.com/tensorflow/probability/issues/1215
    """

    def __init__(
        self,
        distribution_b: tfd.Distribution | Callable[..., tfd.Distribution],
        use_exact_kl: bool = False,
        test_points_reduce_axis: Any = (),
        test_points_fn: Any = "sample",
        weight: Any = None,
    ) -> None:
        _check_distribution_b(distribution_b)
        if not (
            weight is None or isinstance(weight, (numbers.Real, keras.Variable))
        ):
            raise ValueError(
                "The weight of a KL divergence is a number, a keras.Variable "
                "or None. For one that changes in training there is also a VAE "
                f"with ELBO(beta=...). Received: weight={weight!r}."
            )
        if isinstance(distribution_b, keras.Sequential) and not getattr(
            distribution_b, "built", True
        ):
            # Its input is of no use, so of no shape. Now, for its weights to be
            # there before a layer that holds it is built.
            distribution_b.build(())
        self.distribution_b = distribution_b
        self.use_exact_kl = use_exact_kl
        self.test_points_reduce_axis = test_points_reduce_axis
        self.test_points_fn = canonical_conversion(test_points_fn)
        self.weight: Any = weight
        if isinstance(weight, numbers.Real):
            self.weight = float(weight)
        self.seed_generator = keras.random.SeedGenerator()

    @property
    def tracked_state(self) -> tuple[Any, ...]:
        """State that the regularised layer must hold, for Keras to see it."""
        parts = (self.distribution_b, self.weight)
        kinds = (keras.layers.Layer, keras.Variable)
        return (
            self.seed_generator,
            *(part for part in parts if isinstance(part, kinds)),
        )

    def __call__(self, distribution_a: tfd.Distribution) -> Tensor:
        a, b = distribution_a, self._distribution_b()
        if tuple(a.event_shape) != tuple(b.event_shape):
            raise ValueError(
                "A KL divergence is one of distributions over the same event. "
                f"Received: {tuple(a.event_shape)} ({a.name}) and "
                f"distribution_b over {tuple(b.event_shape)} ({b.name})."
            )
        kl = self._exact(a, b) if self.use_exact_kl else self._estimate(a, b)
        inner = range(1 - len(a.batch_shape), 0)
        total = mean(ops.sum(kl, axis=tuple(inner)))
        if self.weight is None:
            return total
        return ops.cast(self.weight, total.dtype) * total

    def _distribution_b(self) -> tfd.Distribution:
        b = self.distribution_b
        if isinstance(b, keras.Model):
            # Keras' own models take tensors alone, of the shape they know.
            shape = getattr(b, "input_shape", None) if b.built else None
            b = b(ops.zeros([size or 1 for size in shape or ()]))
        elif isinstance(b, keras.layers.Layer):
            b = b(None)
        elif not isinstance(b, tfd.Distribution):
            b = b()
        if not isinstance(b, tfd.Distribution):
            raise TypeError(
                "A distribution_b that is called returns a tfp.distributions "
                "object of the running backend. Received: "
                f"{type(b).__name__}."
            )
        return b

    def _exact(self, a: tfd.Distribution, b: tfd.Distribution) -> Tensor:
        try:
            return kl_divergence(a, b)
        except NotImplementedError as error:
            raise NotImplementedError(
                "No closed form is known for the KL divergence of "
                f"{a.name} from {b.name}: take use_exact_kl=False."
            ) from error

    def _estimate(self, a: tfd.Distribution, b: tfd.Distribution) -> Tensor:
        if (
            self.test_points_fn == "sample"
            and a.reparameterization_type == tfd.NOT_REPARAMETERIZED
        ):
            raise ValueError(
                "An estimate of the KL divergence needs draws that let the "
                "gradient through. Take use_exact_kl=True. Received: "
                f"{a.name}."
            )
        z = to_tensor(a, self.test_points_fn, self.seed_generator)
        return a.log_prob(z) - b.log_prob(z)

    def get_config(self) -> dict[str, Any]:
        return {
            "distribution_b": _encode(self.distribution_b),
            "use_exact_kl": self.use_exact_kl,
            "test_points_reduce_axis": self.test_points_reduce_axis,
            "test_points_fn": serialize_conversion(
                self.test_points_fn, "A test_points_fn"
            ),
            "weight": None if self.weight is None else float(self.weight),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "KLDivergenceRegularizer":
        return cls(**{**config, "distribution_b": _decode(config)})


@keras.saving.register_keras_serializable("tfp_vae")
class KLDivergenceAddLoss(OnDistribution):
    """Adds a KL divergence to the loss, and passes the distribution on.

    It does what `KLDivergenceRegularizer` does, as a layer after the one that
    makes the distribution.

    Args:
        distribution_b: as in `KLDivergenceRegularizer`.
        use_exact_kl: likewise.
        test_points_reduce_axis: likewise, of no effect.
        test_points_fn: likewise.
        weight: likewise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        distribution: a, of batch shape `[B, ...]`, or in a symbolic call the
            output of a distribution layer.

    Returns:
        `distribution`.

    Raises:
        TypeError, ValueError, NotImplementedError: see
            `KLDivergenceRegularizer`.

    Example:
    ```python
    model = keras.Sequential([
        keras.layers.Dense(MultivariateNormalTriL.params_size(2)),
        MultivariateNormalTriL(2, convert_to_tensor_fn="sample"),
        KLDivergenceAddLoss(prior, use_exact_kl=True),
        keras.layers.Dense(10),
    ])
    ```
    """

    def __init__(
        self,
        distribution_b: tfd.Distribution | Callable[..., tfd.Distribution],
        use_exact_kl: bool = False,
        test_points_reduce_axis: Any = (),
        test_points_fn: Any = "sample",
        weight: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.regularizer = KLDivergenceRegularizer(
            distribution_b,
            use_exact_kl,
            test_points_reduce_axis,
            test_points_fn,
            weight,
        )
        # Keras finds no variables inside a regularizer.
        self._regularizer_state = self.regularizer.tracked_state

    def call(self, distribution: tfd.Distribution) -> tfd.Distribution:
        self.add_loss(self.regularizer(distribution))
        return distribution

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.regularizer.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "KLDivergenceAddLoss":
        return cls(**{**config, "distribution_b": _decode(config)})


def _check_distribution_b(b: Any) -> None:
    if not isinstance(b, tfd.Distribution) and not callable(b):
        raise TypeError(
            "distribution_b is a tfp.distributions object of the running "
            "backend, or a layer or a function that returns one. Received: "
            f"{b!r}."
        )
    if not isinstance(b, keras.layers.Layer):
        check_no_variables(b, "distribution_b")


def _encode(b: Any) -> Any:
    if isinstance(b, tfd.Distribution):
        return {"distribution": serialize(b)}
    if isinstance(b, keras.layers.Layer):
        return keras.saving.serialize_keras_object(b)
    return serialize_function(b, "A distribution_b")


def _decode(config: dict[str, Any]) -> Any:
    """The `distribution_b` of a config."""
    b = config["distribution_b"]
    if not isinstance(b, dict):
        return b
    if "distribution" in b:
        return deserialize(b["distribution"])
    if b.get("class_name") == "function":
        return deserialize_function(b, "distribution_b")
    return keras.saving.deserialize_keras_object(b)
