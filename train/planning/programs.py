"""What a traced program computes and keeps, without compiling it.

A jaxpr is the list of operations of a traced function. Products of matrices are counted exactly;
what is in memory at once is an estimate, since a compiler decides which values it ever writes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.extend.core as jax_core
from jax.extend.core import Jaxpr

Equation = Any  # jax.extend.core.JaxprEqn

# Results that compilers compute where they are used.
FREE = {"broadcast_in_dim", "iota", "reshape", "squeeze", "convert_element_type", "transpose"}
ELEMENTWISE = {
    *("add", "sub", "mul", "div", "neg", "exp", "log", "log1p", "tanh", "logistic", "max", "min"),
    *("select_n", "integer_pow", "pow", "sqrt", "rsqrt", "erf", "erfc", "eq", "ne", "lt", "le"),
    *("gt", "ge", "and", "or", "not", "xor", "abs", "sign", "square", "copy", "stop_gradient"),
    *("shift_left", "shift_right_logical", "add_any", "random_wrap", "random_unwrap"),
}

PRODUCTS = ("dot_general", "conv_general_dilated")
NOT_INLINED = ("scan", "while", "cond")
KERNEL = "pallas_call"  # what is inside stays on the chip


def matrix_flops(jaxpr: Jaxpr) -> float:
    """Return the FLOP of all products of matrices and convolutions, two per multiply-add.

    The body of a scan counts as often as it runs. The body of a while loop counts once, since how
    often it runs is not known before.
    """
    return _sum_over(jaxpr, _equation_flops)


def product_bytes(jaxpr: Jaxpr) -> float:
    """Return the bytes of the operands and results of all products, convolutions and kernels.

    This is the least that passes between memory and chip, if every other operation is fused with a
    product.
    """

    def moved(equation: Equation) -> float:
        if equation.primitive.name not in (*PRODUCTS, KERNEL):
            return 0.0
        return sum(map(_size, (*_variables(equation.invars), *equation.outvars)))

    return _sum_over(jaxpr, moved)


def peak_bytes(jaxpr: Jaxpr) -> float:
    """Return an estimate of the most bytes that intermediate results take at once.

    Inputs and outputs are not counted. A result that only rearranges another, or is computed
    element by element from one other of its size, takes no memory: a compiler computes it again
    where it is used, and keeps what it is computed from. What a loop needs is added where it runs.
    """
    operations = list(_operations(jaxpr))
    sources: dict[Any, frozenset] = {}  # of each result: the results in memory it is computed from
    last_use: dict[Any, int] = {}
    for number, (equation, inputs, outputs) in enumerate(operations):
        read = frozenset().union(*(sources.get(x, frozenset()) for x in inputs))
        last_use |= dict.fromkeys(read, number)
        is_fused = _is_fused(equation, read)
        sources |= {x: read if is_fused else frozenset((x,)) for x in outputs}
    for x in _variables(jaxpr.outvars):  # written to the memory of the outputs
        last_use.pop(x, None)
    ends: dict[int, list[Any]] = {}
    for x, number in last_use.items():
        ends.setdefault(number, []).append(x)
    live, peak = 0.0, 0.0
    for number, (equation, _, outputs) in enumerate(operations):
        inside = max((peak_bytes(body) for body, _ in _bodies(equation)), default=0.0)
        live += sum(_size(x) for x in outputs if x in last_use)
        peak = max(peak, live + inside)
        live -= sum(map(_size, ends.get(number, ())))
    return peak


def _is_fused(equation: Equation, read: frozenset) -> bool:
    """Return whether a compiler computes a result where it is used, from what is in memory."""
    name, size = equation.primitive.name, _size(equation.outvars[0])
    large = sum(_size(x) > size / 8 for x in read)
    return name in FREE or (name in ELEMENTWISE and large <= 1)


def _operations(
    jaxpr: Jaxpr, names: dict[Any, Any] | None = None
) -> Iterator[tuple[Equation, list[Any], list[Any]]]:
    """Yield each equation with its inputs and outputs, with the bodies of calls in their place."""
    names = {} if names is None else names
    rename = lambda xs: [names.get(x, x) for x in _variables(xs)]
    for equation in jaxpr.eqns:
        bodies = list(_bodies(equation))
        if len(bodies) == 1 and equation.primitive.name not in NOT_INLINED:
            body, inputs = bodies[0][0], equation.invars
            inner = {
                x: names.get(y, y)
                for x, y in zip(body.invars, inputs[len(inputs) - len(body.invars) :], strict=True)
                if not isinstance(y, jax_core.Literal)
            }
            # A body may be shared by calls: its results get names of their own.
            inner |= {x: _Name(x) for inside in body.eqns for x in inside.outvars}
            yield from _operations(body, inner)
            for x, y in zip(equation.outvars, body.outvars, strict=True):
                if not isinstance(y, jax_core.Literal):
                    names[x] = inner.get(y, y)
        else:
            yield equation, rename(equation.invars), rename(equation.outvars)


class _Name:
    """A result of one call of a body."""

    def __init__(self, variable: Any):
        self.aval = variable.aval


def _variables(xs: Iterable[Any]) -> list[Any]:
    return [x for x in xs if not isinstance(x, jax_core.Literal)]


def _size(x: Any) -> float:
    dtype = getattr(x.aval, "dtype", None)  # tokens of side effects have none
    return 0.0 if dtype is None else float(math.prod(x.aval.shape) * dtype.itemsize)


def _sum_over(jaxpr: Jaxpr, measure: Callable[[Equation], float]) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        total += measure(equation)
        bodies = [times * _sum_over(body, measure) for body, times in _bodies(equation)]
        # One of the branches of a conditional runs; the others of an equation's bodies all do.
        total += max(bodies, default=0.0) if equation.primitive.name == "cond" else sum(bodies)
    return total


def _bodies(equation: Equation) -> Iterator[tuple[Jaxpr, int]]:
    """Yield the programs inside an equation, and how often each runs."""
    if equation.primitive.name == KERNEL:
        return
    times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
    for value in equation.params.values():
        for body in value if isinstance(value, tuple | list) else (value,):
            if isinstance(body, jax_core.ClosedJaxpr):
                yield body.jaxpr, times
            elif isinstance(body, Jaxpr):
                yield body, times


def _equation_flops(equation: Equation) -> float:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        result = equation.outvars[0].aval.shape
        return 2.0 * math.prod(result) * math.prod(left[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        kernel = equation.invars[1].aval.shape
        per_output = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * per_output
    return 0.0
