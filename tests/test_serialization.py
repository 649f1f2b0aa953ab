"""A file keeps distributions: class, arguments, dtypes."""

import json
import tracemalloc

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

from tfp_vae import layers, objectives
from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Bernoulli,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.distributions.serialization import (
    deserialize,
    deserialize_function,
    serialize,
    serialize_function,
)
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


def exported(name, module="keras.ops"):
    """The config of a function that Keras exports, but nobody registered."""
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


def gibbs_of(function):
    config = serialize(Gibbs(quartic))
    config["config"]["energy"] = {"function": function}
    return config


@keras.saving.register_keras_serializable("tests")
class Power:
    """An energy that is an object, with any content."""

    def __init__(self, power, held=None):
        self.power = power
        self.held = held

    def __call__(self, r):
        return ops.abs(r) ** self.power

    def get_config(self):
        held = keras.saving.serialize_keras_object(self.held)
        return {"power": self.power, "held": held}

    @classmethod
    def from_config(cls, config):
        held = keras.saving.deserialize_keras_object(config["held"])
        return cls(config["power"], held)


@keras.saving.register_keras_serializable("tests")
class EnergyLayer(keras.layers.Dense):
    """Keras itself writes the configs of initializers and a dtype."""


@pytest.mark.parametrize(
    "held",
    [
        None,
        quartic,
        np.float32([1.0, 2.0]),
        (1, 2),
        keras.initializers.GlorotUniform(1),
        keras.dtype_policies.DTypePolicy("float32"),
    ],
    ids=lambda held: type(held).__name__,
)
def test_an_object_that_is_called_survives(held):
    before = Gibbs(Power(4.0, held))
    after = deserialize(json.loads(json.dumps(serialize(before))))
    assert type(after.energy) is Power
    assert type(after.energy.held) is type(held) or isinstance(held, tuple)
    assert float(after.log_prob(0.5)) == float(before.log_prob(0.5))


def test_a_layer_that_is_called_survives():
    config = serialize_function(EnergyLayer(3, activation="tanh"), "An energy")
    layer = deserialize_function(json.loads(json.dumps(config)), "An energy")
    assert type(layer) is EnergyLayer
    assert layer.units == 3


LOAD_DATA = exported("load_data", "keras.datasets.mnist")


@pytest.mark.parametrize(
    "function",
    [
        exported("square"),
        exported("square", "builtins"),
        exported("ops.square", "keras"),
        LOAD_DATA,
        # Under the name of a class, which Keras would also find.
        {"module": "keras.ops", "class_name": "square", "config": {}},
        # A registered class is not a function.
        exported("tests>Power", "builtins"),
        {"class_name": "function", "config": ["tests>quartic"]},
        {"class_name": "__lambda__", "registered_name": "tests>Power"},
        {"module": "keras.layers", "class_name": "Identity", "config": {}},
        "tests>quartic",
        None,
    ],
    ids=repr,
)
def test_a_file_calls_only_what_is_registered(function):
    with pytest.raises(ValueError, match=r"Gibbs\.energy.*registered"):
        deserialize(gibbs_of(function))


@pytest.mark.parametrize(
    "held",
    [
        LOAD_DATA,
        {"deeper": [LOAD_DATA]},
        {"module": "keras.datasets.mnist", "class_name": "load_data"},
        {"module": "keras.initializers", "class_name": "get", "config": {}},
        {"module": "keras", "class_name": "ops.square", "config": {}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}},
    ],
    ids=repr,
)
def test_nor_does_an_object_hold_anything_else(held):
    config = serialize(Gibbs(Power(2.0)))
    config["config"]["energy"]["function"]["config"]["held"] = held
    with pytest.raises(ValueError, match=r"Gibbs\.energy.*registered"):
        deserialize(config)


@pytest.mark.parametrize(
    "name",
    [
        "Autoregressive",
        "JointDistributionCoroutine",
        "JointDistributionCoroutineAutoBatched",
        "JointDistributionSequential",
        "LinearGaussianStateSpaceModel",
        "VariationalGaussianProcess",
    ],
)
@pytest.mark.parametrize(
    "function",
    [exported("set_epsilon", "keras.config"), exported("tests>quartic")],
    ids=["exported", "registered"],
)
def test_no_distribution_calls_a_function_while_it_is_loaded(name, function):
    epsilon = keras.config.epsilon()
    arguments = {
        "Autoregressive": {
            "distribution_fn": {"function": function},
            "sample0": 0.5,
        },
        "JointDistributionSequential": {"model": [{"function": function}]},
    }.get(name, {"model": {"function": function}})
    with pytest.raises(ValueError, match="while it is made"):
        deserialize({"class_name": name, "config": arguments})
    assert keras.config.epsilon() == epsilon


def test_nor_is_one_saved():
    with pytest.raises(TypeError, match=r"while it is made.*layer"):
        serialize(tfd.Autoregressive(normal_about, sample0=0.0, num_steps=2))


@keras.saving.register_keras_serializable("tests")
def normal_about(x):
    return tfd.Normal(x, 1.0)


@pytest.mark.parametrize(
    ("items", "dtype"),
    [
        (["a"], "S4"),
        (["a"], "U4"),
        ([1], "V4"),
        ([1], "O"),
        ([1], "M8[s]"),
        ([1], "complex64"),
        ([1.0], "4f4"),
        ([1.0], "(2,2)f4"),
        ([1.0], "f4,f4"),
        ([1.0], ["f4"]),
        ([1.0], None),
        ([1.0], "nonsense"),
        ([[1.0], [1.0, 2.0]], "float32"),
        ([{}], "float32"),
        (["a"], "float32"),
        ([300], "uint8"),
    ],
    ids=repr,
)
def test_an_array_is_of_numbers(items, dtype):
    config = {"loc": {"array": items, "dtype": dtype}, "scale": 1.0}
    with pytest.raises(ValueError, match=r"A saved .*Received: .*Normal\.loc"):
        deserialize({"class_name": "Normal", "config": config})


def test_an_array_is_no_larger_than_the_file_says():
    """Strings of a given length took 2 GB for one letter."""
    config = {"loc": {"array": ["a"], "dtype": "S2000000000"}, "scale": 1.0}
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="A saved dtype is the name"):
            deserialize({"class_name": "Normal", "config": config})
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "config",
    [
        None,
        "Normal",
        ["Normal"],
        {},
        {"class_name": "Normal"},
        {"class_name": "Normal", "config": None},
        {"class_name": "Normal", "config": [0.0, 1.0]},
        {"config": {}},
        {"class_name": None, "config": {}},
        {"class_name": ["Normal"], "config": {}},
        # Known names that are not distributions.
        {"class_name": "kl_divergence", "config": {}},
        {"class_name": "__doc__", "config": {}},
        {"class_name": "tests>quartic", "config": {}},
    ],
    ids=repr,
)
def test_what_is_no_config_of_a_distribution_is_refused(config):
    with pytest.raises(ValueError, match="A saved distribution"):
        deserialize(config)


@pytest.mark.parametrize(
    "argument",
    [
        {},
        {"unknown": 1},
        {"array": [1.0]},
        {"dtype_name": "float32", "function": LOAD_DATA},
        {"dtype_name": "4f4"},
        {"dtype_name": None},
        {"distribution": "Normal"},
    ],
    ids=repr,
)
def test_what_is_no_config_of_an_argument_is_refused(argument):
    config = {"loc": argument, "scale": 1.0}
    with pytest.raises(ValueError, match=r"A saved "):
        deserialize({"class_name": "Normal", "config": config})


DOWNLOAD = {
    "module": "keras.datasets.mnist",
    "class_name": "function",
    "config": "load_data",
    "registered_name": "load_data",
}


@pytest.mark.parametrize(
    "load",
    [
        lambda: layers.DistributionLambda.from_config(
            {"make_distribution_fn": DOWNLOAD}
        ),
        lambda: layers.IndependentNormal(2, convert_to_tensor_fn=DOWNLOAD),
        lambda: objectives.ELBO.from_config({"beta": DOWNLOAD}),
        lambda: layers.KLDivergenceRegularizer.from_config(
            {"distribution_b": DOWNLOAD}
        ),
    ],
)
def test_no_part_of_a_file_names_a_function_that_was_not_registered(load):
    with pytest.raises(ValueError, match="registered"):
        load()
