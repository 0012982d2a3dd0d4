"""A vector field, written once in PyTorch, as SymPy expressions, and from these as C code with its gradient."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import sympy as sp
import torch
from sympy.codegen import ast
from sympy.codegen.rewriting import create_expand_pow_optimization
from torch import Tensor

from hybridsam.models import operations

TYPES = {torch.float32: ("float", ast.float32), torch.float64: ("double", ast.float64)}

VectorField = Callable[..., Any]  # (theta, x, g) -> dx/dt, of tensors


class NotFollowedError(Exception):
    """The function does something that cannot be written as a formula of each sample's components."""


def _each(function: Callable, inputs: int = 1) -> Callable:
    return np.frompyfunc(function, inputs, 1)


def _along_components(function: Callable) -> Callable:
    """Allow only the last axis, which holds the components."""

    def checked(values, dim=0):
        if dim != -1:
            raise NotFollowedError(f"uses the axis {dim}; the components are on the axis -1")
        return function(values)

    return checked


def _clamp(x, min=None, max=None):
    bounds = -sp.oo if min is None else min, sp.oo if max is None else max
    return _each(operations.Clamp, 3)(x, *bounds)


# Names of functions and methods of PyTorch -> what they do to arrays of SymPy expressions.
CONDITIONS: dict[str, Callable] = {
    "eq": _each(operations.Equal, 2),
    "ge": _each(operations.GreaterEqual, 2),
    "gt": _each(operations.Greater, 2),
    "le": _each(operations.LessEqual, 2),
    "lt": _each(operations.Less, 2),
    "ne": _each(operations.NotEqual, 2),
}
FORMULAS: dict[str, Callable] = CONDITIONS | {
    "abs": _each(operations.Abs),
    "acos": _each(operations.Acos),
    "add": np.add,
    "asin": _each(operations.Asin),
    "atan": _each(operations.Atan),
    "atan2": _each(operations.Atan2, 2),
    "cat": _along_components(lambda parts: np.concatenate(parts, -1)),
    "clamp": _clamp,
    "cos": _each(operations.Cos),
    "cosh": _each(operations.Cosh),
    "div": _each(operations.divided, 2),
    "exp": _each(operations.Exp),
    "log": _each(operations.Log),
    "maximum": _each(operations.Maximum, 2),
    "minimum": _each(operations.Minimum, 2),
    "mul": np.multiply,
    "neg": np.negative,
    "ones_like": lambda x: np.full(x.shape, sp.Integer(1)),
    "pow": _each(operations.power, 2),
    "reciprocal": _each(lambda x: operations.divided(1, x)),
    "relu": _each(operations.Relu),
    "rsub": lambda x, y: y - x,
    "sigmoid": _each(operations.Sigmoid),
    "sign": _each(operations.Sign),
    "sin": _each(operations.Sin),
    "sinh": _each(operations.Sinh),
    "sqrt": _each(operations.Sqrt),
    "square": _each(lambda x: x**2),
    "stack": _along_components(lambda parts: np.stack(np.broadcast_arrays(*parts), -1)),
    "sub": np.subtract,
    "sum": _along_components(lambda x: x.sum(-1)),
    "tan": _each(operations.Tan),
    "tanh": _each(operations.Tanh),
    "unbind": _along_components(lambda x: tuple(np.moveaxis(x, -1, 0))),
    "unsqueeze": _along_components(lambda x: x[..., None]),
    "where": _each(operations.Where, 3),
    "zeros_like": lambda x: np.full(x.shape, sp.Integer(0)),
}
# Where a comparison may stand: it chooses, or it is a factor of 0 or 1. Other arithmetic of truth is left to PyTorch.
ALLOWED_CONDITIONS = {"where": ([True, False, False],), "mul": ([True, False], [False, True])}
SYNONYMS = {"true_divide": "div", "truediv": "div", "subtract": "sub", "multiply": "mul", "rmul": "mul", "radd": "add"}
SYNONYMS |= {"concat": "cat", "clip": "clamp", "negative": "neg", "absolute": "abs"}


class Recorded:
    """Stands for a tensor (member, sample, *shape) while a function is recorded.

    values: array (*shape) of SymPy expressions; every operation of PyTorch on it is one on them.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.asarray(values, dtype=object)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return _apply(function.__name__, args, kwargs or {})

    def __getattr__(self, name: str) -> Callable:
        return lambda *args, **kwargs: _apply(name, (self, *args), kwargs)

    def __getitem__(self, key) -> "Recorded":
        return Recorded(self.values[_of_components(key)])

    def __setitem__(self, key, value) -> None:
        self.values[_of_components(key)] = _plain(value)

    def __bool__(self) -> bool:
        raise NotFollowedError("decides by the values of the state")

    def __rsub__(self, other) -> "Recorded":
        return _apply("sub", (other, self), {})

    def __rtruediv__(self, other) -> "Recorded":
        return _apply("div", (other, self), {})

    def __rpow__(self, other) -> "Recorded":
        return _apply("pow", (other, self), {})


class Condition(Recorded):
    """What a comparison gives."""


def _operator(name: str) -> Callable:
    return lambda *args: _apply(name, args, {})


for _name in ("add", "radd", "sub", "mul", "rmul", "truediv", "pow", "neg", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Recorded, f"__{_name}__", _operator(_name))


def _apply(name: str, args: Sequence, kwargs: dict):
    if name.endswith("_") and not name.endswith("__"):
        raise NotFollowedError(f"changes a value in place, by {name}")
    name = name.strip("_")
    name = SYNONYMS.get(name, name)
    formula = FORMULAS.get(name)
    if formula is None:
        raise NotFollowedError(f"uses {name}")
    conditions = [isinstance(argument, Condition) for argument in (*args, *kwargs.values())]
    if any(conditions) and conditions not in ALLOWED_CONDITIONS.get(name, ()):
        raise NotFollowedError(f"uses {name} of a comparison")
    result = formula(*(_plain(a) for a in args), **{key: _plain(a) for key, a in kwargs.items()})
    kind = Condition if formula in CONDITIONS.values() else Recorded
    return tuple(map(kind, result)) if isinstance(result, tuple) else kind(result)


def _plain(value):
    """What a formula computes with: arrays of expressions; integers stay exact."""
    if isinstance(value, Recorded):
        return value.values
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Tensor):
        if value.ndim > 1 or value.requires_grad:
            raise NotFollowedError("uses a tensor of its own that is not a constant for each component")
        return np.vectorize(_number, otypes=[object])(value.numpy())
    if isinstance(value, complex):
        raise NotFollowedError("uses a complex number")
    return _number(value) if isinstance(value, float | int) and not isinstance(value, bool) else value


def _number(value: float):
    return sp.Integer(int(value)) if float(value).is_integer() else sp.Float(float(value), 17)


def _of_components(key):
    """An index into the components, given one into (member, sample, component)."""
    key = key if isinstance(key, tuple) else (key,)
    if key[:2] == (slice(None), slice(None)):
        key = (Ellipsis, *key[2:])
    if key[0] is not Ellipsis:
        raise NotFollowedError("indexes members or samples; a component i is x[..., i]")
    return key


def record(field: VectorField, names: Sequence[str], n_x: int, n_g: int) -> dict[str, list[sp.Expr]]:
    """Formulas of a vector field, called as field(theta, x, g) with theta a mapping from those names.

    Returns ``field``, the components of dx/dt, and, with l the gradient of something for them, its gradients ``g_x``,
    ``g_theta`` and ``g_g``. Symbols are called as in C: x[0], theta[0], g[0], l[0].

    Raises NotFollowedError for a function that is no formula of x[..., i], g[..., i] and theta.
    """
    x, g, theta, gradient = (
        sp.symbols([f"{name}[{i}]" for i in range(n)])
        for name, n in (("x", n_x), ("g", n_g), ("theta", len(names)), ("l", n_x))
    )
    values = [Recorded(np.array(symbol)) for symbol in theta]
    try:
        result = field(dict(zip(names, values, strict=True)), Recorded(np.array(x)), Recorded(np.array(g)))
        if not isinstance(result, Recorded):
            raise NotFollowedError("returns no tensor that depends on the state")
        rate = [sp.sympify(component) for component in np.broadcast_to(result.values, n_x)]
        found = iter(operations.gradients(rate, gradient, [*x, *theta, *g]))
        of = {name: [next(found) for _ in symbols] for name, symbols in (("x", x), ("theta", theta), ("g", g))}
    except NotFollowedError:
        raise
    except Exception as error:  # a user's code may raise anything where it is given no tensors, and SymPy too
        why = " ".join(str(error).split())
        raise NotFollowedError(f"failed when it was recorded: {type(error).__name__}: {why}") from error
    return {"field": rate} | {f"g_{name}": expressions for name, expressions in of.items()}


def c_code(formulas: dict[str, list[sp.Expr]], dtype: torch.dtype) -> str:
    """C functions ``field`` and ``field_gradient`` for what :func:`record` returns.

    The gradients for x and g are assigned, that for theta is added. Raises NotFollowedError for a formula that is too
    long.
    """
    real, printed = TYPES[dtype]
    gradients = {name: formulas[name] for name in ("g_x", "g_theta", "g_g")}
    sizes = {f"N_{name[2:].upper()}": len(expressions) for name, expressions in gradients.items()}
    inputs = f"const {real}* x, const {real}* theta, const {real}* g"
    return "\n".join(
        [
            "#include <math.h>",
            "#define FIELD",
            f"typedef {real} Real;",
            *(f"constexpr int {name} = {size};" for name, size in sizes.items()),
            f"static inline void field({inputs}, {real}* field) {{",
            *_statements({"field": formulas["field"]}, real, printed),
            f"}}\nstatic inline void field_gradient({inputs}, const {real}* l, "
            f"{real}* g_x, double* g_theta, {real}* g_g) {{",
            *_statements(gradients, real, printed),
            "}\n",
        ]
    )


def _statements(formulas: dict[str, list[sp.Expr]], real: str, printed: ast.FloatType) -> list[str]:
    """Assignments of the formulas to arrays of their names, with what they have in common computed once."""
    expand_powers = create_expand_pow_optimization(4)

    def c(expression: sp.Expr) -> str:
        return sp.ccode(expand_powers(expression), type_aliases={ast.real: printed})

    try:
        common, all_formulas = sp.cse(list(chain(*formulas.values())))
        lines = [f"  const {real} {symbol} = {c(expression)};" for symbol, expression in common]
        remaining = iter(all_formulas)
        for name, expressions in formulas.items():
            sign = "+=" if name == "g_theta" else "="
            lines += [f"  {name}[{i}] {sign} {c(next(remaining))};" for i in range(len(expressions))]
    except RecursionError:
        raise NotFollowedError("is a formula too long to be written in C") from None
    return lines
