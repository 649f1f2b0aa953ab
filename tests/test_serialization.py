"""Distributions survive a file: class, arguments, dtypes."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Bernoulli,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.distributions.serialization import deserialize, serialize
from tfp_vae.substrate import tfd


@keras.saving.register_keras_serializable("tests")
def quartic(r):
    return r**4


CASES = {
    "huber": lambda: Huber(np.float32([0.1, 2.0]), 1.5, 0.3),
    "lists": lambda: tfd.Independent(Huber([0.0, 1.0], 1.0, 2.0), 1),
    "secant": lambda: HyperbolicSecant(0.5),
    "asymmetric": lambda: AsymmetricLaplace(0.0, 1.0, 0.7),
    "barron": lambda: Barron(0.0, 1.0, 1.3),
    "bernoulli": lambda: Bernoulli(0.3, dtype="float32"),
    "tfp's bernoulli": lambda: tfd.Bernoulli(0.3, dtype="float32"),
    "gibbs": lambda: Gibbs(quartic, 1.0, 2.0),
    "bounded gibbs": lambda: Gibbs(quartic, 1.0, 2.0, support=(-1, 3)),
    "mixture": lambda: tfd.MixtureSameFamily(
        tfd.Categorical(logits=[0.0, 1.0]), tfd.Normal([0.0, 3.0], 1.0)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_distribution_survives(name):
    before = CASES[name]()
    after = deserialize(json.loads(json.dumps(serialize(before))))
    assert type(after) is type(before)
    assert after.dtype == before.dtype
    x = ops.ones(before.event_shape, "float32")
    np.testing.assert_array_equal(
        numpy(after.log_prob(x)), numpy(before.log_prob(x))
    )


def test_code_is_not_saved():
    with pytest.raises(TypeError, match=r"Gibbs\.energy.*named function"):
        serialize(Gibbs(lambda r: r**2))
