"""InfoVAE: the aggregate posterior is pulled to the prior."""

import math
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import is_weight
from tfp_vae.latents import by_part, draw, has_batch, rows_of
from tfp_vae.objectives.batch import Batch
from tfp_vae.objectives.objective import Objective, Schedule
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, samplers, tfp_seed

__all__ = ["MMD", "InfoVAE", "maximum_mean_discrepancy"]


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """From `[A, k]` and `[B, k]` to `[A, B]`, not below zero."""
    squares = ops.sum(ops.square(a), -1)[:, None] + ops.sum(ops.square(b), -1)
    return ops.maximum(squares - 2.0 * ops.matmul(a, ops.transpose(b)), 0.0)


def maximum_mean_discrepancy(
    a: Tensor, b: Tensor, kernel: str = "imq", bandwidth: float | None = None
) -> Tensor:
    """The squared maximum mean discrepancy between two samples.

    ```none
    MMD^2 = mean k(a_i, a_j) + mean k(b_i, b_j) - 2 mean k(a_i, b_j)
    imq:  k(u, v) = C / (C + |u - v|^2)
    rbf:  k(u, v) = exp(-|u - v|^2 / C)
    ```

    The means include i = j, so that the result is never negative and exists for
    a batch of one. For distinct points it exceeds the unbiased estimate by
    about 1/A + 1/B, a constant, except for the factor (1 - 1/A) of the first
    mean.

    Args:
        a: `[A, k]`.
        b: `[B, k]`.
        kernel: `"imq"`, the inverse multiquadric, whose gradient reaches points
            far away, or `"rbf"`.
        bandwidth: C, in squared units of the points; by default 2 k, the mean
            squared distance of two standard normal points.

    Returns:
        A scalar.

    Raises:
        ValueError: for another kernel, or a bandwidth that is not positive.

    References:
        Gretton et al. A kernel two-sample test. JMLR 13, 2012 (equation 5).
        Tolstikhin et al. Wasserstein auto-encoders. ICLR 2018.
        https://arxiv.org/abs/1711.01558
    """
    _check_kernel(kernel, bandwidth)
    size = 2.0 * a.shape[-1] if bandwidth is None else bandwidth

    def mean_kernel(u: Tensor, v: Tensor) -> Tensor:
        distance = _squared_distances(u, v) / size
        values = (
            1.0 / (1.0 + distance) if kernel == "imq" else ops.exp(-distance)
        )
        return mean_over_first(mean_over_first(values))

    return mean_kernel(a, a) + mean_kernel(b, b) - 2.0 * mean_kernel(a, b)


def _check_kernel(kernel: str, bandwidth: float | None) -> None:
    if kernel not in ("imq", "rbf"):
        raise ValueError(
            f'kernel is one of "imq" and "rbf". Received: kernel={kernel!r}.'
        )
    if bandwidth is not None and not (is_weight(bandwidth) and bandwidth > 0):
        raise ValueError(
            "bandwidth is a squared distance, above zero, or None for twice "
            f"the latent size. Received: bandwidth={bandwidth!r}."
        )


def _as_vectors(z: Any) -> Tensor:
    """z, of all parts, as `[B, k]`."""
    parts = by_part(z)
    return ops.concatenate(
        [
            ops.reshape(parts[name], (-1, math.prod(parts[name].shape[1:])))
            for name in sorted(parts)
        ],
        axis=-1,
    )


@keras.saving.register_keras_serializable("tfp_vae")
class InfoVAE(Objective):
    """A KL for each example, and a discrepancy for all of them together.

    ```none
    objective = E_q[log p(x|z)] - (1 - alpha) KL(q(z|x) || p(z))
                - (alpha + lambda - 1) MMD^2(q(z), p(z))
    ```

    where q(z) is the mixture of the posteriors of the batch, and its samples
    are compared with equally many draws from the prior. alpha = 0 and
    lambda = 1 is the ELBO, alpha = 1 the Wasserstein autoencoder (`MMD`). The
    weights of a learned mixture prior get no gradient from the discrepancy,
    since draws carry no gradient to them.

    Args:
        alpha: the share of the KL of single examples that is left out.
        lambda_: the paper's lambda; `alpha + lambda_ - 1` is the weight of the
            MMD. A number, or a function from the training step to one; then the
            weight of the MMD is kept from falling below 0.
        kernel: see `maximum_mean_discrepancy`.
        bandwidth: see `maximum_mean_discrepancy`.
        num_samples: how many samples of z a model draws for each example.
        kl: see `Objective`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        Those of `ELBO`; z is needed.

    Returns:
        `ObjectiveTerms`, each `[B]`, nats per example. The discrepancy, one
        number for the batch, is the same in each objective, and in
        `reports["mmd"]`.

    Raises:
        TypeError, ValueError: see `Objective`.

    Reference:
        Zhao, Song, Ermon. InfoVAE: balancing learning and inference in
        variational autoencoders. AAAI 2019. https://arxiv.org/abs/1706.02262
    """

    scheduled = ("lambda_",)
    reported = ("mmd",)

    def __init__(
        self,
        alpha: float = 0.0,
        lambda_: Schedule = 1000.0,
        kernel: str = "imq",
        bandwidth: float | None = None,
        num_samples: int = 1,
        kl: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        if not is_weight(1.0 - alpha):
            raise ValueError(
                "1 - alpha weighs the KL and is not negative. Received: "
                f"alpha={alpha!r}."
            )
        _check_kernel(kernel, bandwidth)
        self.alpha = alpha
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.lambda_: Schedule
        self.set_schedules(lambda_=lambda_)
        if not callable(lambda_):
            if alpha + lambda_ < 1:
                raise ValueError(
                    "alpha + lambda_ - 1 weighs a discrepancy and is not "
                    f"negative. Received: alpha={alpha!r}, "
                    f"lambda_={lambda_!r}."
                )
            # The draws from the prior depend on the step.
            self.count_steps()

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        z = batch.samples()
        samples = keras.tree.flatten(z)[0].shape[0]
        each = [self._discrepancy(batch, z, i) for i in range(samples)]
        mmd = mean_over_first(ops.stack(each))
        weight = self.alpha - 1.0 + self.at("lambda_", batch)
        if callable(self.lambda_):
            weight = ops.maximum(weight, 0.0)
        objective = (
            mean_over_first(batch.log_likelihood)
            - (1.0 - self.alpha) * batch.kl
            - weight * mmd
        )
        return objective, {"mmd": mmd}

    def _discrepancy(self, batch: Batch, z: Any, index: int) -> Tensor:
        # The same draws in each evaluation: it has no noise of its own.
        number = ops.cast(batch.step, "int32") if batch.training else 0
        seed = samplers.fold_in(tfp_seed(index), number)
        z = keras.tree.map_structure(lambda part: part[index], z)
        rows = () if has_batch(batch.prior) else (rows_of(z),)
        drawn = draw(batch.prior, rows, seed)
        return maximum_mean_discrepancy(
            _as_vectors(z), _as_vectors(drawn), self.kernel, self.bandwidth
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "kernel": self.kernel,
            "bandwidth": self.bandwidth,
        }


@keras.saving.register_keras_serializable("tfp_vae")
class MMD(InfoVAE):
    """The Wasserstein autoencoder: the discrepancy replaces the KL.

    ```none
    objective = E_q[log p(x|z)] - lambda MMD^2(q(z), p(z))
    ```

    It is `InfoVAE(alpha=1)`, and takes its other arguments.

    Args:
        lambda_: the weight of the discrepancy, a number or a function of the
            step.
        **kwargs: of `InfoVAE`.

    Call arguments:
        Those of `InfoVAE`.

    Returns:
        Those of `InfoVAE`.

    Raises:
        TypeError, ValueError: see `Objective`.

    References:
        Tolstikhin et al. Wasserstein auto-encoders. ICLR 2018.
        https://arxiv.org/abs/1711.01558
        Zhao, Song, Ermon. InfoVAE. AAAI 2019.
        https://arxiv.org/abs/1706.02262
    """

    def __init__(self, lambda_: Schedule = 1000.0, **kwargs: Any) -> None:
        super().__init__(alpha=1.0, lambda_=lambda_, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["alpha"]
        return config
