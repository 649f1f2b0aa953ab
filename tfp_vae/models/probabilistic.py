"""Keras models that may end in a distribution."""

from typing import Any

import keras

from tfp_vae.layers.activations import warn_of_activation
from tfp_vae.layers.sample import mean_or_mode
from tfp_vae.models.on_distributions import (
    MetricsOfDistributions,
    losses_of_users,
)
from tfp_vae.models.unscaled import (
    reduces_by_sum,
    warn_of_unscaled_divergence,
)
from tfp_vae.substrate import Tensor, strategy_scope, tfd
from tfp_vae.training.data import Data, as_keras_would, peek
from tfp_vae.training.fast_fit import FastFit
from tfp_vae.warn import warn_user

__all__ = ["Model", "Sequential"]


def _as_tensor(output: Any) -> Any:
    """The tensor of an output, where tensors are needed."""
    if isinstance(output, tfd.Distribution):
        return mean_or_mode(output)
    return output


def _first_rows(values: Any) -> Any:
    """Two rows, as `fit` will give them."""
    if values is None:
        return None
    return keras.ops.convert_to_tensor(as_keras_would(values[:2]))


class _Probabilistic(FastFit):
    """The common part of all classes.

    Keras' `fit` on JAX first runs loss and metrics on placeholders, which no
    distribution can hold, unless they are built already: so they are built on
    two rows. Metrics and `predict` need tensors.
    """

    _of_distributions: MetricsOfDistributions | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], (int, float)):
            # As those of `tfp.layers` that depend on nothing are called.
            args = (keras.ops.convert_to_tensor(float(args[0])), *args[1:])
        return super().__call__(*args, **kwargs)  # type: ignore[misc]

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures the model for training, as in Keras.

        Args:
            optimizer: as in Keras.
            loss: as in Keras; a function or an object of your own is given y
                and the distribution: `lambda y, p: -p.log_prob(y)`.
            loss_weights: as in Keras.
            metrics: as in Keras; a function or an object of your own is given y
                and a distribution that is also a tensor, its mean.
            weighted_metrics: likewise.
            **kwargs: of `FastFit.compile`: `steps_per_execution`,
                `jit_compile` and those of Keras.
        """
        self._of_distributions = None
        if metrics or weighted_metrics:
            self._of_distributions = MetricsOfDistributions()
            metrics = self._of_distributions.of_users(metrics)
            weighted_metrics = self._of_distributions.of_users(weighted_metrics)
        super().compile(
            optimizer=optimizer,
            loss=losses_of_users(loss),
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )

    def get_compile_config(self) -> Any:
        """How the model was compiled.

        Returns:
            A dict; None, with a warning, if a loss or a metric is a function
            that is not registered with Keras: the model is saved without it.
        """
        try:
            return super().get_compile_config()
        except TypeError as error:
            warn_user(
                "The model is saved, but not how it was compiled: after "
                f"loading, call compile again. {error}"
            )
            return None

    def _make_ready(self, x: Any, y: Any = None) -> Any:
        """Builds the model, its loss and its metrics; returns x."""
        model: Any = self
        # None again after each `compile`.
        if not (model.train_function is None and model.test_function is None):
            return x
        x_seen, y_seen, x = peek(x, y)
        with strategy_scope(model):
            x_rows, y_rows = keras.tree.map_structure(
                _first_rows, (x_seen, y_seen)
            )
            y_pred = model(x_rows, training=False)
            warn_of_activation(model)
            if not reduces_by_sum(model.loss):
                warn_of_unscaled_divergence(model)
            model.compute_loss(x_rows, y_rows, y_pred, training=False)
            model.compute_metrics(x_rows, y_rows, y_pred)
            model.reset_metrics()
        return x

    def before_fit(self, data: Data) -> Data:
        """Builds the model, its loss and its metrics.

        Args:
            data: as `fit` was given them.

        Returns:
            The data to be used.
        """
        return data._replace(x=self._make_ready(data.x, data.y))

    def train_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x = self._make_ready(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        x = self._make_ready(x, y)
        return super().test_on_batch(x, y, *args, **kwargs)  # type: ignore[misc]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Keras' loss, for several outputs too.

        Args:
            x: data.
            y: targets.
            y_pred: what the model returned.
            sample_weight: weights of examples.
            training: whether in training.

        Returns:
            A scalar.
        """
        if keras.tree.is_nested(y_pred):
            for output in keras.tree.flatten(y_pred):
                if isinstance(output, tfd.Distribution) and not hasattr(
                    output, "shape"
                ):
                    # By this Keras counts the rows of each of several outputs.
                    output.shape = (*output.batch_shape, *output.event_shape)
        return super().compute_loss(  # type: ignore[misc]
            x, y, y_pred, sample_weight, training
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Keras' metrics, of tensors instead of distributions.

        Args:
            x: data.
            y: targets.
            y_pred: what the model returned.
            sample_weight: weights of examples.

        Returns:
            Values by name.
        """
        metrics = self._of_distributions
        if metrics is None:
            # None that takes an output. On JAX a distribution that holds
            # functions, as a Gaussian process, does not outlive the gradient.
            return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]
        tensors = metrics.tensors(y_pred)
        try:
            return super().compute_metrics(  # type: ignore[misc]
                x, y, tensors, sample_weight
            )
        finally:
            metrics.forget()

    def predict_step(self, *args: Any) -> Any:
        """One batch of `predict`.

        Args:
            *args: the data; on JAX the state of the model comes before them.

        Returns:
            Tensors instead of distributions; on JAX also the state.
        """
        found = super().predict_step(*args)  # type: ignore[misc]
        if len(args) == 1:
            return keras.tree.map_structure(_as_tensor, found)
        outputs, state = found
        return keras.tree.map_structure(_as_tensor, outputs), state


@keras.saving.register_keras_serializable("tfp_vae")
class Sequential(_Probabilistic, keras.Sequential):
    """A `keras.Sequential` that may end in a distribution layer.

    For probabilistic regression and classification, on both backends: it trains
    with `loss=NegativeLogLikelihood()`, and a call returns the distribution.
    `predict` and metrics take its mean, or its mode if it has no mean.

    Args:
        layers: as `keras.Sequential` takes them.
        trainable: as `keras.Sequential` takes it.
        name: as `keras.Sequential` takes it.

    Call arguments:
        inputs: a tensor, `[B, ...]`.

    Returns:
        What the last layer returns.

    Example:
    ```python
    model = tfp_vae.Sequential([
        keras.Input((8,)),
        keras.layers.Dense(IndependentNormal.params_size(1)),
        IndependentNormal(1),
    ])
    model.compile("adam", loss=NegativeLogLikelihood(), metrics=["mae"])
    model.fit(x, y)                                   # y: [N, 1]
    model.predict(x)                                  # [N, 1], the mean
    model(x).stddev()
    ```
    """

    def __init__(
        self, layers: Any = None, trainable: bool = True, name: Any = None
    ) -> None:
        super().__init__(layers, trainable, name)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        warn_of_activation(self)


@keras.saving.register_keras_serializable("tfp_vae")
class Model(_Probabilistic, keras.Model):
    """A `keras.Model` that may return distributions.

    Functional, `tfp_vae.Model(inputs, outputs)` (an object of the class
    `Functional`), or a base class. Otherwise it is like `Sequential`. Each of
    several outputs may be a distribution.

    Args:
        *args: as `keras.Model` takes them.
        **kwargs: as `keras.Model` takes them.

    Call arguments:
        inputs: as declared.

    Returns:
        The outputs, tensors and distributions.

    Raises:
        TypeError: if a subclass is given inputs and outputs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or "inputs" in kwargs:
            raise TypeError(
                "A subclass of tfp_vae.Model has its own `call`. To give "
                "inputs and outputs, derive from "
                f"tfp_vae.models.Functional. Received: {type(self).__name__}."
            )
        super().__init__(**kwargs)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and (args or "inputs" in kwargs):
            return Functional(*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)


@keras.saving.register_keras_serializable("tfp_vae")
class Functional(_Probabilistic, keras.Model):
    """What `tfp_vae.Model(inputs, outputs)` is.

    It is a separate class, since Keras changes the bases of the class of a
    functional model and of its base classes, and no other model works with
    these.
    """

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        warn_of_activation(self)
