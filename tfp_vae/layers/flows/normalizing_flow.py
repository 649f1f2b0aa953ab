"""A distribution passed through transforms that are trained."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.layers.flows.flow import Flow
from tfp_vae.substrate import Tensor, is_discrete, tfb, tfd

__all__ = ["NormalizingFlow"]


@keras.saving.register_keras_serializable("tfp_vae")
class NormalizingFlow(DistributionLayer):
    """A distribution that is passed through transforms.

    ```none
    y = f_T(... f_1(x)),  x ~ base
    log p(y) = log p_base(x) - sum_t log |det df_t|
    ```

    - **A head**, for a posterior or a likelihood: `base` is a distribution
      layer, whose parameters are the inputs.
    - **A prior**: `base` is an event size, and stands for the standard normal.
    - **A density** by itself: a prior as the last layer of a model of x.

    The transforms are Keras layers, whose weights Keras trains and saves. Each
    may see a context: the last `context_size` parameters, or what is passed by
    keyword.

    `log_prob` of a draw that was just made needs no inverse (see `Flow`). The
    weights and the distribution are float32 under a mixed precision policy.

    Args:
        base: a distribution layer of a continuous distribution, an int, or a
            tuple of ints. Events that are not vectors are flattened for the
            transforms.
        transforms: layers such as `AffineCoupling()`, first to last from the
            base to the data.
        context_size: int, the width of the context; 0 for none.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: of a head `[B, params_size of the base]`, or with the context at
            the end `[B, params_size of the base + context_size]`. Of a prior
            None or the context, `[B, context_size]`; without a context, data
            `[B, *event]`, of which it uses only B, or `[B, 0]`.
        context: `[B, context_size]`, instead of the last parameters.

    Returns:
        A `tfd.TransformedDistribution` over the event shape of the base, of
        batch shape `[B]`; for a prior without inputs, of batch shape `[]`.

    Raises:
        TypeError: for a wrong kind of base or transform.
        ValueError: without transforms, if a transform is given twice or was
            built for another size, for a discrete base, or inputs of the wrong
            width.

    Example:
    ```python
    posterior = Head(NormalizingFlow(
        MultivariateNormalDiag(20),
        [InverseAutoregressive(), Permutation(), InverseAutoregressive()],
        context_size=32,
    ))
    prior = NormalizingFlow(2, [SplineCoupling(), SplineCoupling(reverse=True)])

    density = tfp_vae.Sequential([keras.Input((2,)), prior])
    density.compile("adam", loss=NegativeLogLikelihood())
    density.fit(x, x)
    ```

    References:
        Rezende, Mohamed. Variational inference with normalizing flows. ICML
        2015. https://arxiv.org/abs/1505.05770
        Papamakarios et al. Normalizing flows for probabilistic modeling and
        inference. JMLR 2021. https://arxiv.org/abs/1912.02762
    """

    def __init__(
        self,
        base: DistributionLayer | int | Sequence[int],
        transforms: Sequence[keras.layers.Layer],
        context_size: int = 0,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        is_layer = isinstance(base, keras.layers.Layer)
        if is_layer and not isinstance(base, DistributionLayer):
            raise TypeError(
                "The base of a flow is a distribution layer, such as "
                "MultivariateNormalDiag(2), or an event size. Received: "
                f"{base!r}."
            )
        head = base if isinstance(base, DistributionLayer) else None
        super().__init__(
            base if head is None else head.event_shape,
            convert_to_tensor_fn,
            **kwargs,
        )
        if isinstance(context_size, bool) or not (
            isinstance(context_size, int) and context_size >= 0
        ):
            raise ValueError(
                "context_size is the width of the context, an int >= 0. "
                f"Received: context_size={context_size!r}."
            )
        self.base = head
        self.context_size = context_size
        self.transforms = _checked(transforms)
        context_shape = (context_size,) if context_size else None
        size = math.prod(self.event_shape)
        for transform in self.transforms:
            if not transform.built:
                transform.build((size,), context_shape)
            else:  # if it was loaded, or is part of another flow
                _check_sizes(transform, size, context_size)
        if self.base is None:
            self.built = True

    @property
    def num_parameters(self) -> int:
        """How many parameters a head takes: of the base, and the context."""
        return self._num_base_parameters + self.context_size

    @property
    def _num_base_parameters(self) -> int:
        return 0 if self.base is None else self.base.num_parameters

    def build(
        self,
        inputs_shape: tuple[int | None, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        base = self.base
        if base is not None and not base.built:
            if self.context_size and context_shape is None:
                inputs_shape = (*inputs_shape[:-1], self._num_base_parameters)
            base.build(inputs_shape)
            base.built = True

    def call(
        self, inputs: Tensor | None = None, context: Tensor | None = None
    ) -> tfd.Distribution:
        if inputs is not None and self.context_size and context is None:
            check_width(self, inputs.shape, self.num_parameters)
            split = self._num_base_parameters
            inputs, context = inputs[..., :split], inputs[..., split:]
            inputs = inputs if split else None
        if context is None and self.context_size:
            raise ValueError(
                "A flow with a context is called with it, flow(inputs, "
                f"context=h) of width {self.context_size}, or with parameters "
                "that end in it. Received: neither."
            )
        return self.regularized(
            Flow(self._base(inputs, context), self._bijector(context))
        )

    def _bijector(self, context: Tensor | None) -> tfb.Bijector:
        parts = [transform(context) for transform in self.transforms]
        if len(self.event_shape) != 1:
            flat = [math.prod(self.event_shape)]
            shape = list(self.event_shape)
            parts.insert(0, tfb.Reshape(flat, shape))
            parts.append(tfb.Reshape(shape, flat))
        return tfb.Chain(parts[::-1])

    def _base(
        self, inputs: Tensor | None, context: Tensor | None
    ) -> tfd.Distribution:
        """The base, of the batch shape of the whole."""
        if self.base is not None:
            distribution = self.base(inputs)
            if is_discrete(distribution):
                raise ValueError(
                    "A flow moves the outcomes of a continuous distribution. "
                    f"Received: {distribution.name} as its base."
                )
            return distribution
        batch: Any = ()
        if context is not None:
            batch = ops.shape(context)[:-1]
        elif inputs is not None:
            batch = self._batch_of_data(inputs)
        zeros = ops.zeros((*batch, *self.event_shape), self.compute_dtype)
        return tfd.Independent(
            tfd.Normal(zeros, ops.ones_like(zeros)), len(self.event_shape)
        )

    def _batch_of_data(self, inputs: Tensor) -> Any:
        if inputs.shape[-1] == 0:
            return ops.shape(inputs)[:-1]  # it has no parameters
        rank = len(inputs.shape) - len(self.event_shape)
        if rank < 1 or tuple(inputs.shape)[rank:] != self.event_shape:
            raise ValueError(
                "A flow without parameters or context depends on no input: it "
                "is called with None, or with data of its event shape "
                f"{self.event_shape} for a batch of that size. Received: "
                f"inputs of shape {tuple(inputs.shape)}. To make it depend on "
                "them, give it context_size, or a distribution layer as base."
            )
        return ops.shape(inputs)[:rank]

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        if self.base is not None:
            return self.base.compute_output_shape(input_shape)
        if self.context_size or input_shape[-1] == 0:
            return (*input_shape[:-1], *self.event_shape)
        return tuple(input_shape)

    def compute_output_spec(
        self,
        inputs: keras.KerasTensor | None = None,
        context: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        given: Any = context if inputs is None else inputs
        return keras.KerasTensor(
            self.compute_output_shape(tuple(given.shape)),
            dtype=self.compute_dtype,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        event_shape = config.pop("event_shape")
        return {
            **config,
            "base": event_shape
            if self.base is None
            else keras.saving.serialize_keras_object(self.base),
            "transforms": [
                keras.saving.serialize_keras_object(transform)
                for transform in self.transforms
            ],
            "context_size": self.context_size,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NormalizingFlow":
        config = dict(config)
        base = config.pop("base")
        if isinstance(base, dict):
            base = keras.saving.deserialize_keras_object(base)
        transforms = [
            keras.saving.deserialize_keras_object(transform)
            for transform in config.pop("transforms")
        ]
        return cls(base, transforms, **config)


def _check_sizes(
    transform: keras.layers.Layer, size: int, context_size: int
) -> None:
    """Raises if the transform was built for other sizes."""
    # A layer of the user's own may not have these sizes.
    built_for = getattr(transform, "event_size", 0)
    if built_for and (built_for, transform.context_size) != (
        size,
        context_size,
    ):
        raise ValueError(
            f"The transforms of this flow are for vectors of {size} and a "
            f"context of {context_size}. Received: {transform.name}, built for "
            f"vectors of {built_for} and a context of "
            f"{transform.context_size}. Give each flow transforms of its own."
        )


def _checked(
    transforms: Sequence[keras.layers.Layer],
) -> list[keras.layers.Layer]:
    """The transforms, if they are layers, each of them once."""
    transforms = list(transforms)
    for transform in transforms:
        if not isinstance(transform, keras.layers.Layer):
            raise TypeError(
                "The transforms of a flow are Keras layers, so that their "
                "weights train, such as AffineCoupling(). Received: "
                f"{transform!r}."
            )
    if not transforms or len(set(map(id, transforms))) < len(transforms):
        raise ValueError(
            "A flow has one transform at least, and each is a layer of its "
            f"own. Received: {transforms!r}."
        )
    return transforms
