"""Bijectors of vectors that give value and log-determinant together."""

from typing import Any

from keras import ops

from tfp_vae.layers.flows.network import apply_network
from tfp_vae.substrate import Tensor, parameter_properties, ps, tfb

__all__ = [
    "FlowBijector",
    "NetworkBijector",
    "forward_and_log_det",
    "inverse_and_log_det",
]


class FlowBijector(tfb.AutoCompositeTensorBijector):
    """The base: a bijector of vectors, `[..., L]` to `[..., L]`.

    One pass of a network gives the value and the log-determinant, which TFP
    asks for one after the other. In addition to the two methods here, a
    subclass defines the log-determinant that TFP takes,
    `_forward_log_det_jacobian` or `_inverse_log_det_jacobian`: the one that
    needs no loop.

    Args:
        parameters: all arguments of the subclass, by name, including
            `from_context` if it can have one.
        dtype: of the values.
        from_context: the part of a network that comes from a context, `[B, H]`,
            or None.
        validate_args: as in TFP.
        name: as in TFP.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        dtype: Any,
        from_context: Tensor | None,
        validate_args: bool,
        name: str,
    ) -> None:
        self._from_context = from_context
        super().__init__(
            forward_min_event_ndims=1,
            dtype=dtype,
            parameters=parameters,
            validate_args=validate_args,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        # TFP uses them to slice a batch, and to know its shape.
        return {
            "from_context": parameter_properties.ParameterProperties(
                event_ndims=1
            )
        }

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log |det dy/dx|.

        Args:
            x: `[..., L]`.

        Returns:
            `[..., L]` and `[...]`.
        """
        raise NotImplementedError

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log |det dx/dy|.

        Args:
            y: `[..., L]`.

        Returns:
            `[..., L]` and `[...]`.
        """
        raise NotImplementedError

    def _forward(self, x: Tensor) -> Tensor:
        return self.forward_and_log_det(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_and_log_det(y)[0]

    def _with_context(self, x: Tensor) -> Tensor:
        """x repeated for each context, where it broadcasts."""
        if self._from_context is None:
            return x
        batch = ps.broadcast_shape(
            ps.shape(x)[:-1], ps.shape(self._from_context)[:-1]
        )
        return ops.broadcast_to(x, ps.concat([batch, ps.shape(x)[-1:]], 0))


class NetworkBijector(FlowBijector):
    """The base of bijectors whose parameters a network gives.

    Args:
        parameters: as for `FlowBijector`; among them `kernels`, `biases`,
            `from_context` and `activation`, the arguments of `apply_network`.
        validate_args: as in TFP.
        name: as in TFP.
    """

    def __init__(
        self, parameters: dict[str, Any], validate_args: bool, name: str
    ) -> None:
        self._kernels = parameters["kernels"]
        self._biases = parameters["biases"]
        self._activation = parameters["activation"]
        super().__init__(
            parameters,
            self._kernels[0].dtype,
            parameters["from_context"],
            validate_args,
            name,
        )

    def _network(self, x: Tensor) -> Tensor:
        """What the network gives for x, `[..., inputs]`."""
        return apply_network(
            x,
            self._kernels,
            self._biases,
            self._from_context,
            self._activation,
        )


def forward_and_log_det(
    bijector: tfb.Bijector, x: Tensor, event_ndims: int
) -> tuple[Tensor, Tensor]:
    """y and log |det dy/dx| of any bijector, in one pass where possible.

    Args:
        bijector: any; the parts of a `tfb.Chain` are passed one by one.
        x: a tensor.
        event_ndims: how many of its last dimensions are the event.

    Returns:
        y, and a tensor of the leading dimensions of x.
    """
    if isinstance(bijector, FlowBijector):
        return bijector.forward_and_log_det(x)
    if not _is_chain(bijector):
        log_det = bijector.forward_log_det_jacobian(x, event_ndims)
        return bijector.forward(x), log_det
    total: Tensor = 0.0
    for part in reversed(bijector.bijectors):
        x, log_det = forward_and_log_det(part, x, event_ndims)
        event_ndims = part.forward_event_ndims(event_ndims)
        total = total + log_det
    return x, total


def inverse_and_log_det(
    bijector: tfb.Bijector, y: Tensor, event_ndims: int
) -> tuple[Tensor, Tensor]:
    """x and log |det dx/dy| of any bijector, in one pass where possible.

    Args:
        bijector: any; the parts of a `tfb.Chain` are passed one by one.
        y: a tensor.
        event_ndims: how many of its last dimensions are the event.

    Returns:
        x, and a tensor of the leading dimensions of y.
    """
    if isinstance(bijector, FlowBijector):
        return bijector.inverse_and_log_det(y)
    if not _is_chain(bijector):
        log_det = bijector.inverse_log_det_jacobian(y, event_ndims)
        return bijector.inverse(y), log_det
    total: Tensor = 0.0
    for part in bijector.bijectors:
        y, log_det = inverse_and_log_det(part, y, event_ndims)
        event_ndims = part.inverse_event_ndims(event_ndims)
        total = total + log_det
    return y, total


# `tfb.Chain` is an object of this class if one of its parts is not a composite
# tensor.
_ANY_CHAIN = next(cls for cls in tfb.Chain.__mro__ if cls.__name__ == "_Chain")


def _is_chain(bijector: tfb.Bijector) -> bool:
    return isinstance(bijector, _ANY_CHAIN)
