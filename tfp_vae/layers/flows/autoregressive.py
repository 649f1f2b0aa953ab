"""Autoregressive transforms: each element depends on those before it."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_one_of
from tfp_vae.layers.flows.bijector import NetworkBijector
from tfp_vae.layers.flows.masks import made_masks
from tfp_vae.layers.flows.network import bounded
from tfp_vae.layers.flows.transform import NetworkTransform
from tfp_vae.substrate import Tensor, repeat, tfb

__all__ = [
    "InverseAutoregressive",
    "MaskedAutoregressive",
    "MaskedAutoregressiveBijector",
]


class _Autoregressive(NetworkBijector):
    """The common part: shift and log scale of each element, both directions."""

    _is_bounded = True

    def __init__(
        self, parameters: dict[str, Any], validate_args: bool, name: str
    ) -> None:
        # The elements, first to last.
        self._order = parameters["order"]
        super().__init__(parameters, validate_args, name)

    def _shift_and_log_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = ops.split(self._network(x), 2, axis=-1)
        return shift, bounded(log_scale) if self._is_bounded else log_scale

    def _in_turn(
        self, update: Callable[[Tensor, Tensor], Tensor], start: Tensor
    ) -> Tensor:
        """One element after the other, in one compiled loop.

        Elements that are not yet computed are zero, so that they cannot
        overflow.

        Args:
            update: from shifts and log scales to all elements; those up to the
                current one are right.
            start: a tensor of the shape of the result.

        Returns:
            The elements; all except the last in the order are right.
        """
        turns = ops.argsort(ops.convert_to_tensor(list(self._order)))

        def step(i: Tensor, x: Tensor) -> Tensor:
            found = update(*self._shift_and_log_scale(x))
            return ops.where(ops.equal(turns, i), found, x)

        return repeat(len(self._order) - 1, step, ops.zeros_like(start))


class MaskedAutoregressiveBijector(_Autoregressive):
    """y_i = x_i exp(s_i) + m_i, where s and m depend on y before i."""

    def __init__(
        self,
        kernels: Sequence[Tensor],
        biases: Sequence[Tensor],
        from_context: Tensor | None,
        activation: Callable[[Tensor], Tensor],
        order: Sequence[int],
        is_bounded: bool = True,
        validate_args: bool = False,
        name: str = "MaskedAutoregressive",
    ) -> None:
        parameters = dict(locals())
        self._is_bounded = is_bounded
        super().__init__(parameters, validate_args, name)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = self._with_context(y)
        shift, log_scale = self._shift_and_log_scale(y)
        return (y - shift) * ops.exp(-log_scale), -ops.sum(log_scale, axis=-1)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self._with_context(x)
        y = self._in_turn(lambda m, s: x * ops.exp(s) + m, x)
        shift, log_scale = self._shift_and_log_scale(y)
        return x * ops.exp(log_scale) + shift, ops.sum(log_scale, axis=-1)

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return self.inverse_and_log_det(y)[1]


class _InverseAutoregressive(_Autoregressive):
    """y_i = x_i exp(s_i) + m_i, where s and m depend on x before i."""

    def __init__(
        self,
        kernels: Sequence[Tensor],
        biases: Sequence[Tensor],
        from_context: Tensor | None,
        activation: Callable[[Tensor], Tensor],
        order: Sequence[int],
        validate_args: bool = False,
        name: str = "InverseAutoregressive",
    ) -> None:
        parameters = dict(locals())
        super().__init__(parameters, validate_args, name)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self._with_context(x)
        shift, log_scale = self._shift_and_log_scale(x)
        return x * ops.exp(log_scale) + shift, ops.sum(log_scale, axis=-1)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = self._with_context(y)
        x = self._in_turn(lambda m, s: (y - m) * ops.exp(-s), y)
        shift, log_scale = self._shift_and_log_scale(x)
        return (y - shift) * ops.exp(-log_scale), -ops.sum(log_scale, axis=-1)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return self.forward_and_log_det(x)[1]


class _AutoregressiveLayer(NetworkTransform):
    """The common part of the layers.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        input_order: `"left-to-right"` or `"right-to-left"`.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.
    """

    _bijector: Callable[..., _Autoregressive]

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: Any = "relu",
        input_order: str = "left-to-right",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_units, activation, kernel_initializer, **kwargs)
        self.input_order = check_one_of(
            "input_order", input_order, ("left-to-right", "right-to-left")
        )

    @property
    def order(self) -> tuple[int, ...]:
        """The elements, first to last."""
        order = range(self.event_size)
        return tuple(
            order if self.input_order == "left-to-right" else reversed(order)
        )

    def build(
        self,
        input_shape: tuple[int, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        super().build(input_shape, context_shape)
        masks = made_masks(
            self.order, self.hidden_units, 2, self.context_size > 0
        )
        self.make_network(self.event_size, 2 * self.event_size, masks)

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        return self._bijector(
            **self.network(context), order=self.order, name=self.name
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_order": self.input_order}


@keras.saving.register_keras_serializable("tfp_vae")
class MaskedAutoregressive(_AutoregressiveLayer):
    """The masked autoregressive flow: fast densities, draws one by one.

    ```none
    y[i] = x[i] exp(s[i](y[<i])) + m[i](y[<i])
    log |det dy/dx| = sum s
    ```

    The inverse, and so the density of data, costs one pass of a MADE network;
    a draw costs as many passes as there are elements, in one compiled loop. Use
    it for priors and likelihoods; for a posterior take `InverseAutoregressive`.
    The log scales s lie between -5 and 5. It starts as the identity.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        input_order: `"left-to-right"` or `"right-to-left"`: let transforms
            take turns, or put a `Permutation` between them.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: `[B, context_size]`, or None; see `FlowTransform`.

    Returns:
        A `tfb.Bijector` of vectors.

    Raises:
        ValueError: for an order that there is not.

    References:
        Papamakarios, Pavlakou, Murray. Masked autoregressive flow for density
        estimation. NeurIPS 2017. https://arxiv.org/abs/1705.07057
        Germain, Gregor, Murray, Larochelle. MADE. ICML 2015.
        https://arxiv.org/abs/1502.03509
    """

    _bijector = MaskedAutoregressiveBijector


@keras.saving.register_keras_serializable("tfp_vae")
class InverseAutoregressive(_AutoregressiveLayer):
    """The inverse autoregressive flow: fast draws with their densities.

    ```none
    y[i] = x[i] exp(s[i](x[<i])) + m[i](x[<i])
    log |det dy/dx| = sum s
    ```

    A draw and its density cost one pass of a MADE network: made for posteriors.
    The density of any other value costs as many passes as there are elements,
    in one compiled loop. The log scales s lie between -5 and 5. It starts as
    the identity.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        input_order: `"left-to-right"` or `"right-to-left"`: let transforms
            take turns, or put a `Permutation` between them.
        kernel_initializer: of the hidden layers.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: the h of the paper, `[B, context_size]`, or None; see
            `FlowTransform`.

    Returns:
        A `tfb.Bijector` of vectors.

    Raises:
        ValueError: for an order that there is not.

    Reference:
        Kingma et al. Improving variational inference with inverse
        autoregressive flow. NeurIPS 2016. https://arxiv.org/abs/1606.04934
    """

    _bijector = _InverseAutoregressive
