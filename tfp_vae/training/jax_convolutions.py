"""Convolutions and their gradients in the form that is fast on a CPU.

The gradient of a kernel is also a convolution, of the input with a window as
large as the output. A convolution has two operands, and either may be the
window:

```none
y[p] = sum_q x[p + q] w[q] = sum_m x[m] w[m - p]
```

XLA on a CPU gathers the elements under the window for each row of the other
operand, and has a separate slow path if that operand is dilated, as it is for
strided transposed convolutions: this is ten to thirty times slower than with
the operands exchanged (jax-ml/jax issues 31662 and 23783).

XLA has fast convolutions only for one order of dimensions, channels last, and
transposes others to that order, but not inside a loop: there they are up to
forty times slower. So they are transposed here.
"""

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax import lax
from jax.extend import core

__all__ = ["with_fast_convolutions"]


def with_fast_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with each convolution in the form that is fastest.

    Args:
        function: one that JAX can compile, from and to trees of arrays.

    Returns:
        A compiled function that gives the same, except for rounding.

    Warns:
        RuntimeWarning: once, if the installed JAX has operations in a form that
            is not known here; the function then runs unchanged.
    """
    compiled = jax.jit(function)

    @functools.wraps(function)
    def fast(*args: Any, **kwargs: Any) -> Any:
        closed, shapes = jax.make_jaxpr(compiled, return_shape=True)(
            *args, **kwargs
        )
        # Only speed is lost, and jaxprs change between versions of JAX.
        try:
            rewritten = core.jaxpr_as_fun(_rewritten(closed))
        except Exception as error:
            _warn_once(f"{type(error).__name__}: {error}")
            return compiled(*args, **kwargs)
        outputs = rewritten(*jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return fast


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        "The convolutions of a training step are brought to the form that is "
        "fastest on a CPU, which needs a JAX whose jaxprs are known here; on "
        f"JAX {jax.__version__} it failed with {reason}. Training goes on with "
        "XLA's own convolutions, with the same results but perhaps slower: "
        "another version of JAX may avoid it.",
        RuntimeWarning,
        stacklevel=3,
    )


def _rewritten(found: Any) -> Any:
    """A jaxpr, or anything among the parameters of an operation in one.

    A jaxpr without convolutions stays the same object: so JAX recognises it in
    several places.
    """
    # Before the closed ones: from JAX 0.11 on both are one class, whose `jaxpr`
    # is itself.
    if isinstance(found, core.Jaxpr):
        equations = [_rewritten_equation(e) for e in found.eqns]
        if _are_identical(equations, found.eqns):
            return found
        return found.replace(eqns=equations)
    if isinstance(found, core.ClosedJaxpr):
        jaxpr = _rewritten(found.jaxpr)
        return found if jaxpr is found.jaxpr else found.replace(jaxpr=jaxpr)
    if type(found) is tuple:
        parts = tuple(map(_rewritten, found))
        return found if _are_identical(parts, found) else parts
    return found


def _are_identical(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))


def _rewritten_equation(equation: core.JaxprEqn) -> core.JaxprEqn:
    if equation.primitive is not core.primitives.conv_general_dilated_p:
        params = {k: _rewritten(v) for k, v in equation.params.items()}
        if _are_identical(params.values(), equation.params.values()):
            return equation
        return equation.replace(params=params)
    lhs, rhs = (v.aval for v in equation.invars)
    (result,) = (v.aval for v in equation.outvars)
    convolve: Callable[..., Any] = _convolution
    if _is_faster_turned(lhs, rhs, result, **equation.params):
        convolve = functools.partial(_turned, shape=result.shape)
    elif equation.params["dimension_numbers"] == _channels_last(lhs.ndim):
        return equation
    # Keeps its name, which profiles show.
    called = functools.update_wrapper(
        functools.partial(convolve, **equation.params),
        getattr(convolve, "func", convolve),
    )
    # The one equation that calls it, with the variables of the old one.
    (replacement,) = jax.make_jaxpr(jax.jit(called))(
        *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (lhs, rhs))
    ).eqns
    return replacement.replace(invars=equation.invars, outvars=equation.outvars)


def _is_faster_turned(
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
    """Whether a convolution is a gradient that is faster when turned."""
    batch, _, *_ = dimension_numbers.lhs_spec
    features, _, *window = dimension_numbers.rhs_spec
    _, _, *space = dimension_numbers.out_spec
    sizes = [result.shape[dim] for dim in space]
    if (
        {feature_group_count, batch_group_count} != {1}
        or {*window_strides, *rhs_dilation} != {1}
        # In three dimensions XLA takes about as long for either.
        or len(space) > 2
        # A kernel's gradient has a large window and a small result.
        or any(rhs.shape[w] <= s for w, s in zip(window, sizes, strict=True))
        # More padding than before would cost more time than it saves.
        or any(
            low + high < size - 1
            for (low, high), size in zip(padding, sizes, strict=True)
        )
    ):
        return False
    # XLA gathers once for each row, and only once for all features.
    return set(lhs_dilation) != {1} or lhs.shape[batch] > rhs.shape[features]


def _turned(
    lhs: Any,
    rhs: Any,
    *,
    shape: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: lax.ConvDimensionNumbers,
    precision: Any,
    **params: Any,
) -> Any:
    """A convolution of stride 1 with its operands exchanged.

    The result is reversed, and begins where the old one ended:

    ```none
    y[P - 1 - p] = sum_m w[m + p - (P - 1 - low)] x[m],   P the size of y
    ```
    """
    rows, features, *space = dimension_numbers.out_spec
    sizes = [shape[dim] for dim in space]
    backwards = _convolution(
        rhs,
        lhs,
        padding=tuple(
            (size - 1 - low, size - 1 - high)
            for size, (low, high) in zip(sizes, padding, strict=True)
        ),
        lhs_dilation=rhs_dilation,
        rhs_dilation=lhs_dilation,
        dimension_numbers=lax.ConvDimensionNumbers(
            dimension_numbers.rhs_spec,
            dimension_numbers.lhs_spec,
            (features, rows, *space),
        ),
        precision=precision[::-1]
        if isinstance(precision, tuple)
        else precision,
        **params,
    )
    return lax.rev(backwards, space)


def _convolution(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: lax.ConvDimensionNumbers,
    **params: Any,
) -> Any:
    """A convolution whose dimensions are transposed to the order of XLA."""
    last = _channels_last(lhs.ndim)
    result = lax.conv_general_dilated_p.bind(
        _moved(lhs, dimension_numbers.lhs_spec, last.lhs_spec),
        _moved(rhs, dimension_numbers.rhs_spec, last.rhs_spec),
        dimension_numbers=last,
        **params,
    )
    return _moved(result, last.out_spec, dimension_numbers.out_spec)


def _channels_last(rank: int) -> lax.ConvDimensionNumbers:
    """Rows, space, channels; for the kernel: space, channels, features."""
    space = range(1, rank - 1)
    rows = (0, rank - 1, *space)
    return lax.ConvDimensionNumbers(
        rows, (rank - 1, rank - 2, *range(rank - 2)), rows
    )


def _moved(array: Any, source: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """An array with its dimensions `source` moved to `target`."""
    order = [0] * array.ndim
    for old, new in zip(source, target, strict=True):
        order[new] = old
    return lax.transpose(array, order)
