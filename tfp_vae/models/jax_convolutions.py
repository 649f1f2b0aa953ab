"""Gradients of convolutions, written as XLA on a CPU computes them fast.

The gradient of a kernel is a convolution too, one of the input with a window as
large as the output. A convolution has two operands, and either may be the
window:

```none
y[p] = sum_q x[p + q] w[q] = sum_m x[m] w[m - p]
```

XLA on a CPU gathers what is under the window for each row of the other operand,
and has a slow path of its own where that one is dilated, as it is for strided
transposed convolutions: ten to thirty times as slow as with the operands in
turned roles (jax-ml/jax issues 31662 and 23783).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core

__all__ = ["with_fast_convolutions"]


def with_fast_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with convolutions turned where that is faster.

    Args:
        function: one that JAX can trace, from and to trees of arrays.

    Returns:
        A function that gives the same but for rounding.
    """

    @functools.wraps(function)
    def turned(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = core.jaxpr_as_fun(_turned(closed))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return turned


def _turned(found: Any) -> Any:
    """A jaxpr, or anything within the parameters of one, rewritten."""
    if isinstance(found, core.ClosedJaxpr):
        return found.replace(jaxpr=_turned(found.jaxpr))
    if isinstance(found, core.Jaxpr):
        return found.replace(eqns=[_turned_equation(e) for e in found.eqns])
    if type(found) is tuple:
        return tuple(map(_turned, found))
    return found


def _turned_equation(equation: core.JaxprEqn) -> core.JaxprEqn:
    if equation.primitive is not core.primitives.conv_general_dilated_p:
        params = {k: _turned(v) for k, v in equation.params.items()}
        return equation.replace(params=params)
    left, right = (v.aval for v in equation.invars)
    (result,) = (v.aval for v in equation.outvars)
    if not _faster_turned(left, right, result, **equation.params):
        return equation

    @jax.jit
    def turned_convolution(lhs: Any, rhs: Any) -> Any:
        return _convolve_turned(lhs, rhs, result, **equation.params)

    # The one equation that calls it, on the variables of the old.
    (replacement,) = jax.make_jaxpr(turned_convolution)(
        *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (left, right))
    ).eqns
    return replacement.replace(invars=equation.invars, outvars=equation.outvars)


def _faster_turned(
    lhs: Any,
    rhs: Any,
    result: Any,
    *,
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> bool:
    """Whether a convolution is a gradient that is faster the other way."""
    batch, _, *_ = dimension_numbers.lhs_spec
    features, _, *window = dimension_numbers.rhs_spec
    _, _, *space = dimension_numbers.out_spec
    sizes = [result.shape[dim] for dim in space]
    if (
        {feature_group_count, batch_group_count} != {1}
        or {*window_strides, *rhs_dilation} != {1}
        # In three dimensions XLA takes about as long for either.
        or len(space) > 2
        # Of a kernel's gradient the window is large and the result is small.
        or any(rhs.shape[w] <= s for w, s in zip(window, sizes, strict=True))
        # More padding than before would take longer than what is won.
        or any(
            low + high < size - 1
            for (low, high), size in zip(padding, sizes, strict=True)
        )
    ):
        return False
    # What is gathered for each row is gathered once for all features.
    return set(lhs_dilation) != {1} or lhs.shape[batch] > rhs.shape[features]


def _convolve_turned(
    lhs: Any,
    rhs: Any,
    result: Any,
    *,
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: lax.ConvDimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
    **others: Any,
) -> Any:
    """A convolution of stride 1 with its operands in turned roles.

    The result comes backwards, and begins where the old one ended:

    ```none
    y[P - 1 - p] = sum_m w[m + p - (P - 1 - low)] x[m],   P the size of y
    ```
    """
    rows, features, *space = dimension_numbers.out_spec
    sizes = [result.shape[dim] for dim in space]
    if isinstance(precision, tuple):
        precision = precision[::-1]
    backwards = lax.conv_general_dilated(
        rhs,
        lhs,
        [1] * len(space),
        [
            (size - 1 - low, size - 1 - high)
            for size, (low, high) in zip(sizes, padding, strict=True)
        ],
        lhs_dilation=rhs_dilation,
        rhs_dilation=lhs_dilation,
        dimension_numbers=lax.ConvDimensionNumbers(
            dimension_numbers.rhs_spec,
            dimension_numbers.lhs_spec,
            (features, rows, *space),
        ),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return lax.rev(backwards, space)
