"""Transforms that mix the elements of a vector: permutations, matrices."""

import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.layers.flows.bijector import FlowBijector
from tfp_vae.layers.flows.transform import FlowTransform, value_of
from tfp_vae.substrate import Tensor, tfb

__all__ = ["InvertibleLinear", "Permutation"]


class _Permute(tfb.Permute):
    """TFP's, but unchanged when a batch is sliced, where TFP's own raises."""

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        return {}


@keras.saving.register_keras_serializable("tfp_vae")
class Permutation(FlowTransform):
    """Puts the elements of a vector into another order; nothing is trained.

    ```none
    y[i] = x[permutation[i]],    log |det dy/dx| = 0
    ```

    Args:
        permutation: `"reverse"`, `"random"`, or the numbers 0 to L - 1 in any
            order.
        seed: int, for a random permutation; None for a new one at each
            construction. It is saved.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: ignored.

    Returns:
        A `tfb.Permute`.

    Raises:
        ValueError: if it is not a permutation, or not of that many elements.
    """

    def __init__(
        self,
        permutation: str | Sequence[int] = "reverse",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(permutation, str):
            permutation = [int(i) for i in permutation]
            fits = sorted(permutation) == list(range(len(permutation)))
        else:
            fits = permutation in ("reverse", "random")
        if not fits:
            raise ValueError(
                'A permutation is "reverse", "random", or the numbers from 0 '
                f"on in any order. Received: permutation={permutation!r}."
            )
        self.permutation = permutation
        self.seed = random.randrange(2**31) if seed is None else seed

    def build(
        self,
        input_shape: tuple[int, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        super().build(input_shape, context_shape)
        given = self.permutation
        if not isinstance(given, str) and len(given) != self.event_size:
            raise ValueError(
                f"A permutation of vectors of {self.event_size} has that many "
                f"numbers. Received: {len(given)}, {given!r}."
            )

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        if self.permutation == "reverse":
            order = np.arange(self.event_size)[::-1]
        elif self.permutation == "random":
            # The stream of `RandomState` is the same for all versions.
            order = np.random.RandomState(self.seed).permutation(
                self.event_size
            )
        else:
            order = np.array(self.permutation)
        return _Permute(order.astype("int32"), name=self.name)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "permutation": self.permutation,
            "seed": self.seed,
        }


class _Linear(FlowBijector):
    """y = L U x, with triangles whose diagonals are 1 and exp(log_scale)."""

    def __init__(
        self,
        lower: Tensor,
        upper: Tensor,
        log_scale: Tensor,
        validate_args: bool = False,
        name: str = "InvertibleLinear",
    ) -> None:
        parameters = dict(locals())
        self._lower = lower
        self._upper = upper
        self._log_scale = log_scale
        super().__init__(parameters, lower.dtype, None, validate_args, name)

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:
        return {}

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.matmul(x, ops.transpose(ops.matmul(self._lower, self._upper)))
        return y, self._forward_log_det_jacobian(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        columns = ops.transpose(ops.reshape(y, (-1, y.shape[-1])))
        columns = ops.solve_triangular(self._lower, columns, lower=True)
        columns = ops.solve_triangular(self._upper, columns, lower=False)
        x = ops.reshape(ops.transpose(columns), ops.shape(y))
        return x, -self._forward_log_det_jacobian(y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return ops.sum(self._log_scale) * ops.ones_like(x[..., 0])


@keras.saving.register_keras_serializable("tfp_vae")
class InvertibleLinear(FlowTransform):
    """Multiplies vectors by a matrix that is trained by its LU factors.

    ```none
    y = L U x,    log |det dy/dx| = sum_i log U[i, i]
    ```

    L is lower triangular with ones on its diagonal, U is upper triangular with
    positive numbers on its diagonal. It starts as the identity.

    Args:
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: ignored.

    Returns:
        A `tfb.Bijector` of vectors.

    Reference:
        Kingma, Dhariwal. Glow: generative flow with invertible 1x1
        convolutions. NeurIPS 2018. https://arxiv.org/abs/1807.03039
    """

    def build(
        self,
        input_shape: tuple[int, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        super().build(input_shape, context_shape)
        size = self.event_size
        # Both triangles in one matrix; its diagonal is not used.
        self.triangles = self.add_weight(
            shape=(size, size), initializer="zeros", name="triangles"
        )
        self.log_scale = self.add_weight(
            shape=(size,), initializer="zeros", name="log_scale"
        )

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        matrix = value_of(self.triangles)
        log_scale = value_of(self.log_scale)
        eye = ops.eye(self.event_size, dtype=matrix.dtype)
        return _Linear(
            ops.tril(matrix, -1) + eye,
            ops.triu(matrix, 1) + eye * ops.exp(log_scale),
            log_scale,
            name=self.name,
        )
