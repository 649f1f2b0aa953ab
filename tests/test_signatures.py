"""`help` and an editor show all arguments of a layer."""

import inspect
import re

import keras
import pytest

from tfp_vae import layers, tables
from tfp_vae.substrate import tfd, tfp

CLASSES = [
    found
    for name in layers.__all__
    if inspect.isclass(found := getattr(layers, name))
]
NORMAL = layers.IndependentNormal

# Arguments without a default, by name.
REQUIRED = {
    "base": lambda: 2,
    "blocks": lambda: [NORMAL(2)],
    "component_layer": lambda: NORMAL(2),
    "components": lambda: [
        layers.NormalizingFlow(2, [layers.AffineCoupling()])
    ],
    "distribution": lambda: NORMAL(2),
    "distribution_b": lambda: tfd.Normal(0.0, 1.0),
    "event_shape": lambda: (2, 3),
    "event_size": lambda: 4,
    "filters": lambda: 2,
    "initializers": lambda: ["zeros", "ones"],
    "input_shape": lambda: (3,),
    "kernel_provider": lambda: Kernel(),
    "kernel_size": lambda: 3,
    "make_posterior_fn": lambda: unit_normal,
    "make_prior_fn": lambda: unit_normal,
    "make_distribution_fn": lambda: unit_normal,
    "num_classes": lambda: 3,
    "num_components": lambda: 2,
    "num_inducing_points": lambda: 3,
    "rank": lambda: 1,
    "layer": lambda: keras.layers.Dense(2),
    "parts": lambda: {"z": layers.Head(layers.MultivariateNormalDiag(2))},
    "made": lambda: layers.AutoregressiveNetwork(2, event_shape=2),
    "params": lambda: 2,
    "shape": lambda: 3,
    "sizes": lambda: [1, 2],
    "transforms": lambda: [layers.AffineCoupling()],
    "units": lambda: 2,
    "table": lambda: tables.TableEncoder({"age": "continuous"}),
}


@keras.saving.register_keras_serializable("tests")
def unit_normal(loc):
    return tfd.Normal(loc, 1.0)


@keras.saving.register_keras_serializable("tests")
class Kernel(keras.layers.Layer):
    @property
    def kernel(self):
        return tfp.math.psd_kernels.ExponentiatedQuadratic()


def parameters(cls):
    return dict(inspect.signature(cls).parameters)


def own(cls):
    return {
        name: parameter
        for name, parameter in parameters(cls).items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def made(cls):
    return cls(
        **{
            name: REQUIRED[name]()
            for name, parameter in own(cls).items()
            if parameter.default is parameter.empty
        }
    )


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (
            layers.IndependentHuber,
            "(event_shape=(), convert_to_tensor_fn=None, min_scale=1e-06, *, "
            "scale='learned', delta=1.0, **kwargs)",
        ),
        (
            layers.IndependentNormal,
            "(event_shape=(), convert_to_tensor_fn=None, min_scale=1e-06, *, "
            "scale='learned', **kwargs)",
        ),
        (
            layers.IndependentGamma,
            "(event_shape=(), convert_to_tensor_fn=None, min_scale=1e-06, *, "
            "concentration='learned', rate='learned', **kwargs)",
        ),
        (
            layers.DiscretizedLogistic,
            "(event_shape, low=0, high=255, min_scale=0.1, *, "
            "scale='learned', convert_to_tensor_fn=None, **kwargs)",
        ),
        (
            layers.DiscretizedLogisticMixture,
            "(event_shape, num_components, low=0, high=255, min_scale=0.1, *, "
            "scale='learned', convert_to_tensor_fn=None, **kwargs)",
        ),
    ],
)
def test_the_signature(cls, expected):
    shown = [
        parameter.replace(annotation=parameter.empty)
        for parameter in parameters(cls).values()
    ]
    assert str(inspect.Signature(shown)) == expected
    # In the code itself, which a static editor reads.
    assert set(own(cls)) <= set(cls.__init__.__code__.co_varnames)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_docstring_has_each_argument(cls):
    section = re.search(
        r"\n    Args:\n(.*?)\n(?:    \S|$)",
        inspect.getdoc(cls).replace("\n", "\n    ") + "\n",
        re.DOTALL,
    )[1]
    documented = re.findall(r"^ {8}(?:\*\*)?(\w+):", section, re.MULTILINE)
    assert sorted(documented) == sorted(parameters(cls))
    if "kwargs" in documented:
        assert re.search(r"\*\*kwargs: of `keras.layers.Layer`", section) or (
            cls is layers.IndependentLayer
        )


@pytest.mark.parametrize("cls", CLASSES)
def test_the_config_has_each_argument(cls):
    if cls in (layers.DistributionLayer, layers.IndependentLayer):
        pytest.skip("a base class")
    if cls is layers.TrainableDistribution:
        pytest.skip("its arguments are those of a distribution class")
    layer = made(cls)
    config = layer.get_config()
    assert set(own(cls)) <= set(config)
    for name, parameter in own(cls).items():
        default = parameter.default
        if isinstance(default, (int, float)) or default == "learned":
            # An int stands for one in each dimension.
            each = (default,) * getattr(cls, "rank", 1)
            assert config[name] in (default, each), name
    assert cls.from_config(config).get_config() == config


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if issubclass(cls, layers.IndependentLayer)]
)
def test_defaults_of_modes_are_those_of_the_signature(cls):
    defaults = {name: p.default for name, p in parameters(cls).items()}
    assert cls.positive == {name: defaults[name] for name in cls.positive}
    kinds = {parameters(cls)[name].kind for name in cls.positive}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


def test_the_default_of_a_mode_is_said_once():
    class Shared(layers.IndependentNormal):
        def __init__(self, event_shape=(), *, scale="shared", **kwargs):
            super().__init__(event_shape, scale=scale, **kwargs)

    assert Shared(3).num_parameters == Shared.params_size(3) == 3
    assert Shared(3, scale="learned").num_parameters == 6
    with pytest.raises(TypeError, match="Give it an __init__ with scale='sha"):

        class Wrong(layers.IndependentNormal):
            positive = {"scale": "shared"}
