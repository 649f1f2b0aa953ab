"""Semi-supervised learning: the M2 model of Kingma et al., 100 labels of 1,400.

A conditional VAE, a classifier q(c|x) and two bounds. A label of -1 is unknown.

    log p(x, c)  >=  ELBO(x, c) + log p(c)
    log p(x)     >=  sum_c q(c|x) (ELBO(x, c) + log p(c) - log q(c|x))

Reference: Kingma et al. Semi-supervised learning with deep generative models.
NeurIPS 2014. https://arxiv.org/abs/1406.5298
"""

import keras
import numpy as np
from conditional import CLASSES, load, networks
from keras import ops

from tfp_vae import VAE
from tfp_vae.layers import IndependentNormal


class M2(VAE):
    """A conditional VAE that infers missing labels."""

    def __init__(self, *args, classifier, weight=50.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.classifier = classifier  # from x to the logits of q(class|x)
        self.weight = weight

    def call(self, data, training=None):
        # Every image under every class: [C * B] rows, class by class.
        rows = ops.shape(data["x"])[0]
        x = ops.tile(data["x"], (CLASSES, 1))
        label = ops.repeat(ops.arange(CLASSES, dtype="int32"), rows)
        return super().call({"x": x, "label": label}, training=training)

    def compute_terms(self, data, y_pred, training=False):
        x = ops.tile(data["x"], (CLASSES, 1))
        every = super().compute_terms(x, y_pred, training)
        logits = self.classifier(data["x"], training=training)
        log_q = ops.log_softmax(logits, axis=-1)
        known = data["label"] >= 0
        label = ops.one_hot(data["label"], CLASSES)  # zeros for -1
        weights = ops.where(known[:, None], label, ops.exp(log_q))

        def over_classes(values):
            values = ops.reshape(values, (CLASSES, -1))
            return ops.sum(weights * ops.transpose(values), axis=-1)

        objective = over_classes(every.objective) - np.log(CLASSES)
        entropy = -ops.sum(ops.exp(log_q) * log_q, axis=-1)
        right = self.weight * ops.sum(label * log_q, axis=-1)
        return every._replace(
            log_likelihood=over_classes(every.log_likelihood),
            kl=over_classes(every.kl),
            objective=objective + ops.where(known, right, entropy),
        )


def main(epochs: int = 60, labels: int = 100) -> float:
    """Trains on a few labels; returns the accuracy on the test set."""
    keras.utils.set_random_seed(0)
    x, label = load(None)
    known = np.where(np.arange(len(x)) < labels, label, -1).astype("int32")
    dense = keras.layers.Dense
    parts = [keras.Input((64,)), dense(128, "relu"), dense(CLASSES)]
    classifier = keras.Sequential(parts)
    head = IndependentNormal(64, scale="shared")
    vae = M2(*networks(64, head), classifier=classifier, seed=0)
    vae.compile(keras.optimizers.Adam(2e-3))
    data = {"x": x[:1400], "label": known[:1400]}
    vae.fit(data, batch_size=100, epochs=epochs, verbose=0)
    found = ops.convert_to_numpy(classifier(x[1400:])).argmax(axis=-1)
    accuracy = (found == label[1400:]).mean()
    print(f"{labels} labels of 1,400: {accuracy:.1%} of the others are right")
    return accuracy


if __name__ == "__main__":
    main()
