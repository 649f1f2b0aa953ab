"""Couplings: one half of a vector decides how to transform the other."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int, is_positive_number
from tfp_vae.layers.flows.bijector import NetworkBijector
from tfp_vae.layers.flows.network import bounded
from tfp_vae.layers.flows.spline import (
    rational_quadratic_spline,
    spline_params_size,
)
from tfp_vae.layers.flows.transform import NetworkTransform
from tfp_vae.substrate import Tensor, tfb

__all__ = ["AffineCoupling", "SplineCoupling"]


class _Coupling(NetworkBijector):
    """The common part; a subclass transforms elements by their parameters."""

    def __init__(
        self, parameters: dict[str, Any], validate_args: bool, name: str
    ) -> None:
        self._event_size = parameters["event_size"]
        self._reverse = parameters["reverse"]
        super().__init__(parameters, validate_args, name)

    def _elements(
        self, x: Tensor, raw: Tensor, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Elements `[..., m]` transformed, and log derivatives."""
        raise NotImplementedError

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._coupled(x, inverse=False)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._coupled(y, inverse=True)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return self.forward_and_log_det(x)[1]

    def _coupled(self, x: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        x = self._with_context(x)
        split = kept_size(self._event_size, self._reverse)
        if self._reverse:
            moved, kept = x[..., :-split], x[..., -split:]
        else:
            kept, moved = x[..., :split], x[..., split:]
        raw = self._network(kept)
        moved, log_det = self._elements(moved, raw, inverse)
        parts = [moved, kept] if self._reverse else [kept, moved]
        return ops.concatenate(parts, axis=-1), ops.sum(log_det, axis=-1)


def kept_size(event_size: int, reverse: bool) -> int:
    """How many elements a coupling leaves unchanged."""
    return (event_size + 1) // 2 if reverse else event_size // 2


class _AffineCoupling(_Coupling):
    def __init__(
        self,
        kernels: Sequence[Tensor],
        biases: Sequence[Tensor],
        from_context: Tensor | None,
        activation: Callable[[Tensor], Tensor],
        event_size: int,
        reverse: bool,
        validate_args: bool = False,
        name: str = "AffineCoupling",
    ) -> None:
        parameters = dict(locals())
        super().__init__(parameters, validate_args, name)

    def _elements(
        self, x: Tensor, raw: Tensor, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        shift, log_scale = ops.split(raw, 2, axis=-1)
        log_scale = bounded(log_scale)
        if inverse:
            return (x - shift) * ops.exp(-log_scale), -log_scale
        return x * ops.exp(log_scale) + shift, log_scale


class _SplineCoupling(_Coupling):
    def __init__(
        self,
        kernels: Sequence[Tensor],
        biases: Sequence[Tensor],
        from_context: Tensor | None,
        activation: Callable[[Tensor], Tensor],
        event_size: int,
        reverse: bool,
        num_bins: int,
        bound: float,
        validate_args: bool = False,
        name: str = "SplineCoupling",
    ) -> None:
        parameters = dict(locals())
        self._num_bins = num_bins
        self._bound = bound
        super().__init__(parameters, validate_args, name)

    def _elements(
        self, x: Tensor, raw: Tensor, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        size = spline_params_size(self._num_bins)
        raw = ops.reshape(raw, (*ops.shape(raw)[:-1], x.shape[-1], size))
        return rational_quadratic_spline(x, raw, self._bound, inverse)


class _CouplingLayer(NetworkTransform):
    """The common part of the layers.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        reverse: whether the first half is transformed instead of the last.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: Any = "relu",
        reverse: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_units, activation, kernel_initializer, **kwargs)
        self.reverse = reverse

    def _params_per_element(self) -> int:
        raise NotImplementedError

    def build(
        self,
        input_shape: tuple[int, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        super().build(input_shape, context_shape)
        if self.event_size < 2:
            raise ValueError(
                "A coupling transforms one half of a vector by the other, so "
                f"it takes vectors of at least 2. Received: {self.event_size}. "
                "Take MaskedAutoregressive, which with a context transforms "
                "single numbers as well."
            )
        kept = kept_size(self.event_size, self.reverse)
        moved = self.event_size - kept
        self.make_network(kept, moved * self._params_per_element())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reverse": self.reverse}


@keras.saving.register_keras_serializable("tfp_vae")
class AffineCoupling(_CouplingLayer):
    """Scales and shifts one half of a vector, as the other half decides.

    ```none
    y[a] = x[a]                          the first half a, L // 2 elements
    y[b] = x[b] exp(s(x[a])) + m(x[a])   the others b
    log |det dy/dx| = sum s
    ```

    Both directions cost one pass of the network, which gives m and s. The log
    scales s lie between -5 and 5. It starts as the identity.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        reverse: whether the first half is transformed instead of the last:
            alternate between the two.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: `[B, context_size]`, or None; see `FlowTransform`.

    Returns:
        A `tfb.Bijector` of vectors.

    Raises:
        ValueError: for vectors of one element.

    Example:
    ```python
    transforms = [AffineCoupling(), AffineCoupling(reverse=True)]
    prior = NormalizingFlow(20, transforms)
    ```

    Reference:
        Dinh, Sohl-Dickstein, Bengio. Density estimation using Real NVP. ICLR
        2017. https://arxiv.org/abs/1605.08803
    """

    def _params_per_element(self) -> int:
        return 2

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        return _AffineCoupling(
            **self.network(context),
            event_size=self.event_size,
            reverse=self.reverse,
            name=self.name,
        )


@keras.saving.register_keras_serializable("tfp_vae")
class SplineCoupling(_CouplingLayer):
    """Bends one half of a vector by splines that the other half gives.

    ```none
    y[a] = x[a]                          the first half a, L // 2 elements
    y[i] = spline(x[i]; network(x[a]))   each element i of the others
    ```

    The splines are monotone and rational quadratic on [-bound, bound], and the
    identity outside. They start as the identity everywhere. Both directions
    cost one pass of the network and are exact.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        reverse: whether the first half is transformed instead of the last.
        num_bins: of each spline.
        bound: where the splines end, in units of the data.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: `[B, context_size]`, or None; see `FlowTransform`.

    Returns:
        A `tfb.Bijector` of vectors.

    Raises:
        ValueError: for a bound that is not positive, fewer than 2 bins or more
            than 500, or vectors of one element.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios. Neural spline flows. NeurIPS
        2019. https://arxiv.org/abs/1906.04032
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: Any = "relu",
        reverse: bool = False,
        num_bins: int = 8,
        bound: float = 5.0,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            hidden_units, activation, reverse, kernel_initializer, **kwargs
        )
        self.num_bins = check_positive_int("num_bins", num_bins)
        if not 2 <= self.num_bins <= 500:
            raise ValueError(
                f"A spline has 2 to 500 bins. Received: num_bins={num_bins!r}."
            )
        if not is_positive_number(bound):
            raise ValueError(
                "bound is where the spline ends and the identity begins, a "
                f"positive number. Received: bound={bound!r}."
            )
        self.bound = float(bound)

    def _params_per_element(self) -> int:
        return spline_params_size(self.num_bins)

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        return _SplineCoupling(
            **self.network(context),
            event_size=self.event_size,
            reverse=self.reverse,
            num_bins=self.num_bins,
            bound=self.bound,
            name=self.name,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "bound": self.bound,
        }
