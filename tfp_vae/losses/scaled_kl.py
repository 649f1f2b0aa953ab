"""The divergence of uncertain weights, at the scale of a mean loss."""

from typing import Any

import keras

from tfp_vae.arguments import is_positive_number
from tfp_vae.distributions import kl_divergence
from tfp_vae.substrate import Tensor, tfd

__all__ = ["scaled_kl"]


@keras.saving.register_keras_serializable("tfp_vae")
class _ScaledKL:
    """What `scaled_kl` returns."""

    def __init__(self, num_examples: float) -> None:
        if not is_positive_number(num_examples):
            raise ValueError(
                "scaled_kl is told the number of examples that the model is "
                f"trained on. Received: num_examples={num_examples!r}."
            )
        self.num_examples = num_examples

    def __call__(
        self,
        posterior: tfd.Distribution,
        prior: tfd.Distribution,
        tensor: Tensor = None,
    ) -> Tensor:
        del tensor
        return kl_divergence(posterior, prior) / self.num_examples

    def get_config(self) -> dict[str, Any]:
        return {"num_examples": self.num_examples}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_ScaledKL":
        return cls(**config)


def scaled_kl(num_examples: float) -> Any:
    """A `kernel_divergence_fn` for a loss that is a mean over examples.

    ```none
    -ELBO / N = mean of -log p(y|x, w) + KL(q(w) || p(w)) / N
    ```

    The weights are uncertain once, not once for each example: beside a mean
    loss, as Keras has it, the divergence is divided by the number of examples
    in the training data (not in a batch). For a `DenseVariational` it is
    `kl_weight=1 / num_examples`.

    Args:
        num_examples: N, how many examples `fit` is given.

    Returns:
        A function of posterior, prior and a draw to nats per example. It is
        saved with the layer.

    Raises:
        ValueError: if it is not a positive number.

    Example:
    ```python
    DenseFlipout(32, kernel_divergence_fn=scaled_kl(len(x_train)))
    ```

    Reference:
        Graves. Practical variational inference for neural networks. NeurIPS
        2011. https://papers.nips.cc/paper/2011
    """
    return _ScaledKL(num_examples)
