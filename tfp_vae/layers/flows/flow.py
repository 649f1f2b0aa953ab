"""The distribution of draws that were passed through a flow."""

from typing import Any

from tfp_vae.layers.flows.bijector import (
    forward_and_log_det,
    inverse_and_log_det,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Flow"]


class _Draw:
    """The last draw of a distribution: where it came from and its density."""

    value: Tensor = None
    base: Tensor = None
    log_det: Tensor = None


class Flow(tfd.TransformedDistribution):
    """A `tfd.TransformedDistribution` that recognises its last draw.

    ```none
    y = f(x),  x ~ p_x        log p(y) = log p_x(x) - log |det df/dx|
    ```

    `log_prob` of the tensor object that `sample` returned last needs neither
    the inverse of f nor a second pass of its network. The draw is recognised by
    identity, also in compiled functions on both backends: a copy, a slice or a
    reshaped draw is inverted. As with any cache of TFP, the density of a draw
    is not computed from the draw: to differentiate it in y, give a copy.

    Args:
        distribution: p_x, of the batch shape of the result.
        bijector: f.
        validate_args: as in TFP.
        name: as in TFP.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        bijector: Any,
        validate_args: bool = False,
        name: str = "Flow",
    ) -> None:
        parameters = dict(locals())
        super().__init__(
            distribution,
            bijector,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )
        # In an object, so that copies of the attributes share it.
        self._draw = _Draw()

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        # TFP requires them of each class that has its own `__init__`.
        return super()._parameter_properties(dtype, num_classes)

    def _call_sample_n(
        self, sample_shape: Any, seed: Any, **kwargs: Any
    ) -> Tensor:
        x = self.distribution.sample(sample_shape, seed=seed, **kwargs)
        y, log_det = forward_and_log_det(
            self.bijector, x, len(self.distribution.event_shape)
        )
        draw = self._draw
        draw.value, draw.base, draw.log_det = y, x, log_det
        return y

    def _sample_and_log_prob(
        self, sample_shape: Any, seed: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        y = self._call_sample_n(sample_shape, seed, **kwargs)
        return y, self._log_prob(y)

    def _log_prob(self, y: Tensor) -> Tensor:
        draw = self._draw
        if draw.value is y:
            return self.distribution.log_prob(draw.base) - draw.log_det
        x, log_det = inverse_and_log_det(
            self.bijector, y, len(self.event_shape)
        )
        return self.distribution.log_prob(x) + log_det


def _no_closed_form(a: Any, b: Any, name: str | None = None) -> Tensor:
    """Replaces TFP's, which compares the tensors of both bijectors."""
    if a.bijector is b.bijector:
        return tfd.kl_divergence(a.distribution, b.distribution)
    raise NotImplementedError(
        f"No closed form is known for the KL divergence of {a.name} from "
        f"{b.name}."
    )


_ANY = tfd.TransformedDistribution.__mro__[1]
for _pair in ((Flow, Flow), (Flow, _ANY), (_ANY, Flow)):
    tfd.RegisterKL(*_pair)(_no_closed_form)
