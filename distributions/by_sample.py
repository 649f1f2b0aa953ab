"""One batch of distributions, read as several samples of a smaller one."""

from typing import Any

from keras import ops

from tfp_vae.substrate import Tensor, ps, tfd

__all__ = ["BySample"]


class BySample(tfd.Distribution):
    """A distribution of batch shape `[S * B]`, read as one of `[S, B]`.

    What `tfd.BatchReshape` does, also where TensorFlow does not know B while it
    traces. `kl_divergence` sees through it.

    Args:
        distribution: of batch shape `[S * B]`, sample by sample.
        samples: S.
        name: of the distribution.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        samples: int,
        name: str = "BySample",
    ) -> None:
        parameters = dict(locals())
        self.distribution = distribution
        self.samples = samples
        super().__init__(
            dtype=distribution.dtype,
            reparameterization_type=distribution.reparameterization_type,
            validate_args=False,
            allow_nan_stats=distribution.allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    def by_sample(self, values: Tensor, leading: int = 0) -> Tensor:
        """`[..., S * B, ...]` as `[..., S, B, ...]`.

        Args:
            values: a tensor.
            leading: how many dimensions come before.

        Returns:
            A tensor.
        """
        shape = ops.shape(values)
        before, after = shape[:leading], shape[leading + 1 :]
        return ops.reshape(values, (*before, self.samples, -1, *after))

    def _batch_shape(self) -> Any:
        (rows,) = tuple(self.distribution.batch_shape)
        rows = None if rows is None else rows // self.samples
        return type(self.distribution.batch_shape)((self.samples, rows))

    def _batch_shape_tensor(self) -> Tensor:
        rows = self.distribution.batch_shape_tensor()[0] // self.samples
        return ps.stack([self.samples, rows])

    def _event_shape(self) -> Any:
        return self.distribution.event_shape

    def _event_shape_tensor(self) -> Tensor:
        return self.distribution.event_shape_tensor()

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        return self.by_sample(self.distribution.sample(n, seed=seed), 1)

    def _log_prob(self, value: Tensor) -> Tensor:
        event = tuple(self.event_shape)
        flat = ops.reshape(value, (-1, *event))
        return self.by_sample(self.distribution.log_prob(flat))

    def _mean(self) -> Tensor:
        return self.by_sample(self.distribution.mean())

    def _mode(self) -> Tensor:
        return self.by_sample(self.distribution.mode())

    def _stddev(self) -> Tensor:
        return self.by_sample(self.distribution.stddev())
