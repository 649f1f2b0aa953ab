"""What a model with uncertain weights predicts, all draws of them together."""

from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.checks import check_is_distribution
from tfp_vae.layers.sample import mean_or_mode, stddev_or_estimate
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, tfd

__all__ = ["PosteriorPredictive", "posterior_predictive"]


class PosteriorPredictive(NamedTuple):
    """What `posterior_predictive` returns.

    Args:
        distribution: the mixture of all draws, of batch shape `[B]`.
        epistemic: the variance of the means over draws of the weights,
            `[B, *event]`, in squared units of y: what more data would lessen.
        aleatoric: the mean of the variances, `[B, *event]`, likewise: the noise
            that stays.
    """

    distribution: tfd.Distribution
    epistemic: Tensor
    aleatoric: Tensor


def posterior_predictive(
    model: keras.Model, x: Any, num_samples: int = 100
) -> PosteriorPredictive:
    """The distribution of y, averaged over the uncertain weights of a model.

    ```none
    p(y|x) ~ 1/S sum_s p(y|x, w_s),    w_s ~ q(w)
    Var(y|x) = Var_s(E(y|x, w_s)) + E_s(Var(y|x, w_s))
               epistemic            aleatoric
    ```

    The model is called S times: each time its layers draw other weights.

    Args:
        model: a model that ends in a distribution, with layers such as
            `DenseFlipout` or `DenseVariational`.
        x: data, `[B, ...]`, as the model is called with.
        num_samples: S.

    Returns:
        `PosteriorPredictive`. Where TFP knows no mean or variance, they are
        estimated.

    Raises:
        TypeError: if the model returns something else.
        ValueError: if `num_samples` is not an int >= 1.

    Example:
    ```python
    predictive = posterior_predictive(model, x, 50)
    predictive.distribution.log_prob(y)       # [B], nats
    keras.ops.sqrt(predictive.epistemic)      # [B, *event]
    ```

    Reference:
        Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft. Decomposition of
        uncertainty in Bayesian deep learning. ICML 2018.
        https://arxiv.org/abs/1710.07283
    """
    check_positive_int("num_samples", num_samples)
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    draws = []
    for _ in range(num_samples):
        draw = check_is_distribution(
            model(x, training=False), "the model", "IndependentNormal"
        )
        # As a component it is a distribution and nothing else.
        draws.append(getattr(draw, "tensor_distribution", draw))
    means = ops.stack(list(map(mean_or_mode, draws)))
    stddevs = ops.stack(list(map(stddev_or_estimate, draws)))
    batch = tuple(draws[0].batch_shape)
    logits = ops.zeros((*batch, num_samples), stddevs.dtype)
    return PosteriorPredictive(
        tfd.Mixture(tfd.Categorical(logits=logits), draws),
        mean_over_first(ops.square(means - mean_over_first(means))),
        mean_over_first(ops.square(stddevs)),
    )
