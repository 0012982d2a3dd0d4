"""Operations of PyTorch as functions of SymPy that have PyTorch's values and gradients, at kinks and edges too.

SymPy's own functions are those of mathematics: the derivative of its sign is a Dirac delta, its sqrt(x)**2 is x for a
negative x too. These here are left as they are written, and each states what it passes on of the gradient of its
result, as automatic differentiation does: nothing through sign; 0 through abs and relu at 0; halves to both at a tie of
maximum or minimum; all of it through clamp at its bounds; 0 to the branch that where does not take, and then 0 * inf =
NaN if that branch has an infinite derivative there.

One difference remains. Sums, products and powers by whole numbers are SymPy's, which drops what is multiplied by the
number 0, such as what lies behind a sign, and what cancels to 0, also where PyTorch computes 0 * inf = NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod

import sympy as sp

Slope = Callable[..., sp.Expr | int]


class Operation(sp.Function):
    """A function of SymPy that is written in C by a template.

    c: of the arguments as C, {0}, {1}, ...; Real is the type of numbers. slopes: for each argument its gradient, given
    that of the result and the arguments. shown: what readers are shown in its place, None where code is easier to read.
    """

    c: str
    slopes: tuple[Slope, ...]
    shown: Callable[..., sp.Expr] | None

    def _ccode(self, printer, **settings) -> str:
        return type(self).c.format(*(f"({printer._print(argument)})" for argument in self.args))


def _operation(name: str, c: str, *slopes: Slope, shown: Callable[..., sp.Expr] | None = None) -> type[Operation]:
    """A kind of operation, with as many arguments as slopes."""
    return type(name, (Operation,), {"c": c, "slopes": slopes, "shown": staticmethod(shown) if shown else None})


def _comparison(name: str, sign: str) -> type[Operation]:
    return _operation(name, f"({{0}} {sign} {{1}} ? Real(1) : Real(0))", _nothing, _nothing)


def _nothing(*_: sp.Expr) -> int:
    return 0


def divided(x: sp.Expr | int, y: sp.Expr | int) -> sp.Expr:
    """x / y; by a number it is a product."""
    x, y = sp.sympify(x), sp.sympify(y)
    return x / y if y.is_number and y != 0 else Div(x, y)


def power(x: sp.Expr | int, y: sp.Expr | int) -> sp.Expr:
    """x**y; by a whole number it is a product."""
    x, y = sp.sympify(x), sp.sympify(y)
    if y == sp.Rational(1, 2):
        return Sqrt(x)
    if y == -1:
        return divided(1, x)
    return x**y if y.is_Integer and y >= 0 else Power(x, y)


Div: type[Operation] = _operation(
    "Div",
    "({0} / Real{1})",
    lambda g, x, y: divided(g, y),
    lambda g, x, y: -g * divided(divided(x, y), y),
    shown=lambda x, y: x / y,
)
Power: type[Operation] = _operation(
    "Power",
    "pow(Real{0}, Real{1})",
    lambda g, x, y: Where(Equal(y, 0), 0, g * y * power(x, y - 1)),
    lambda g, x, y: Where(Both(Equal(x, 0), GreaterEqual(y, 0)), 0, g * Power(x, y) * Log(x)),
    shown=lambda x, y: x**y,
)
Sqrt: type[Operation] = _operation("Sqrt", "sqrt(Real{0})", lambda g, x: Div(g, 2 * Sqrt(x)), shown=sp.sqrt)
Exp: type[Operation] = _operation("Exp", "exp(Real{0})", lambda g, x: g * Exp(x), shown=sp.exp)
Log: type[Operation] = _operation("Log", "log(Real{0})", lambda g, x: divided(g, x), shown=sp.log)
Sin: type[Operation] = _operation("Sin", "sin(Real{0})", lambda g, x: g * Cos(x), shown=sp.sin)
Cos: type[Operation] = _operation("Cos", "cos(Real{0})", lambda g, x: -g * Sin(x), shown=sp.cos)
Tan: type[Operation] = _operation("Tan", "tan(Real{0})", lambda g, x: g * (1 + Tan(x) ** 2), shown=sp.tan)
Asin: type[Operation] = _operation("Asin", "asin(Real{0})", lambda g, x: g * Div(1, Sqrt(1 - x**2)), shown=sp.asin)
Acos: type[Operation] = _operation("Acos", "acos(Real{0})", lambda g, x: -g * Div(1, Sqrt(1 - x**2)), shown=sp.acos)
Atan: type[Operation] = _operation("Atan", "atan(Real{0})", lambda g, x: Div(g, 1 + x**2), shown=sp.atan)
Sinh: type[Operation] = _operation("Sinh", "sinh(Real{0})", lambda g, x: g * Cosh(x), shown=sp.sinh)
Cosh: type[Operation] = _operation("Cosh", "cosh(Real{0})", lambda g, x: g * Sinh(x), shown=sp.cosh)
Tanh: type[Operation] = _operation("Tanh", "tanh(Real{0})", lambda g, x: g * (1 - Tanh(x) ** 2), shown=sp.tanh)
Sigmoid: type[Operation] = _operation(
    "Sigmoid",
    "(1 / (1 + exp(-Real{0})))",
    lambda g, x: g * (1 - Sigmoid(x)) * Sigmoid(x),
    shown=lambda x: 1 / (1 + sp.exp(-x)),
)
Atan2: type[Operation] = _operation(
    "Atan2",
    "atan2(Real{0}, Real{1})",
    lambda g, y, x: g * _or_zero(x, x**2 + y**2),
    lambda g, y, x: -g * _or_zero(y, x**2 + y**2),
    shown=sp.atan2,
)

Equal: type[Operation] = _comparison("Equal", "==")
NotEqual: type[Operation] = _comparison("NotEqual", "!=")
Greater: type[Operation] = _comparison("Greater", ">")
GreaterEqual: type[Operation] = _comparison("GreaterEqual", ">=")
Less: type[Operation] = _comparison("Less", "<")
LessEqual: type[Operation] = _comparison("LessEqual", "<=")
Both: type[Operation] = _operation("Both", "({0} != 0 && {1} != 0 ? Real(1) : Real(0))", _nothing, _nothing)
Either: type[Operation] = _operation("Either", "({0} != 0 || {1} != 0 ? Real(1) : Real(0))", _nothing, _nothing)
Where: type[Operation] = _operation(
    "Where",
    "({0} != 0 ? Real{1} : Real{2})",
    _nothing,
    lambda g, condition, yes, no: Where(condition, g, 0),
    lambda g, condition, yes, no: Where(condition, 0, g),
)


def _or_zero(x: sp.Expr, y: sp.Expr) -> sp.Expr:
    """x / y, but 0 where y is."""
    return Where(Equal(y, 0), 0, Div(x, y))


def _of_larger(g: sp.Expr, x: sp.Expr, y: sp.Expr) -> sp.Expr:
    """What x gets of the gradient of the larger of both; that of NaN goes to both."""
    return Where(Equal(x, y), g / 2, Where(Less(x, y), 0, g))


Sign: type[Operation] = _operation("Sign", "Real(({0} > 0) - ({0} < 0))", _nothing, shown=sp.sign)
Abs: type[Operation] = _operation("Abs", "fabs(Real{0})", lambda g, x: g * Sign(x), shown=sp.Abs)
Relu: type[Operation] = _operation("Relu", "({0} <= 0 ? Real(0) : Real{0})", lambda g, x: Where(LessEqual(x, 0), 0, g))
Maximum: type[Operation] = _operation(
    "Maximum",
    "({0} > {1} || {0} != {0} ? Real{0} : Real{1})",
    lambda g, x, y: _of_larger(g, x, y),
    lambda g, x, y: _of_larger(g, y, x),
    shown=sp.Max,
)
Minimum: type[Operation] = _operation(
    "Minimum",
    "({0} < {1} || {0} != {0} ? Real{0} : Real{1})",
    lambda g, x, y: _of_larger(g, y, x),
    lambda g, x, y: _of_larger(g, x, y),
    shown=sp.Min,
)
Clamp: type[Operation] = _operation(
    "Clamp",
    "({0} != {0} || {1} != {1} || {2} != {2} ? Real(NAN) : "
    "{0} > {2} || {2} < {1} ? Real{2} : {0} < {1} ? Real{1} : Real{0})",
    lambda g, x, low, high: Where(Both(GreaterEqual(x, low), LessEqual(x, high)), g, 0),
    lambda g, x, low, high: Where(Both(Less(low, high), Less(x, low)), g, 0),
    lambda g, x, low, high: Where(Either(Greater(x, high), Less(high, low)), g, 0),
)


# Expressions made of them


def gradients(results: Sequence[sp.Expr], upstream: Sequence[sp.Expr], symbols: Sequence[sp.Symbol]) -> list[sp.Expr]:
    """The gradient for the symbols, given that of the results, going back through the operations as PyTorch does."""
    of = dict.fromkeys(symbols, sp.S.Zero)
    for result, gradient in zip(results, upstream, strict=True):
        of[result] = of.get(result, sp.S.Zero) + gradient
    for part in reversed(_in_order(results)):
        if gradient := of.get(part, sp.S.Zero):
            for argument, passed in zip(part.args, _passed_on(gradient, part), strict=True):
                of[argument] = of.get(argument, sp.S.Zero) + passed
    return [of[symbol] for symbol in symbols]


def _in_order(results: Sequence[sp.Expr]) -> list[sp.Expr]:
    """All parts of the results that depend on something, each once, after the parts that it is made of."""
    found: dict[sp.Expr, None] = {}

    def visit(part: sp.Expr) -> None:
        if part not in found and part.free_symbols:
            for argument in part.args:
                visit(argument)
            found[part] = None

    for result in results:
        visit(result)
    return list(found)


def _passed_on(g: sp.Expr, part: sp.Expr) -> Iterator[sp.Expr]:
    """What an expression passes on to each of its arguments of its own gradient g."""
    if isinstance(part, Operation):
        yield from (sp.sympify(slope(g, *part.args)) for slope in type(part).slopes)
    elif part.is_Add:
        yield from (g for _ in part.args)
    elif part.is_Mul:
        yield from (g * prod(part.args[:i] + part.args[i + 1 :]) for i in range(len(part.args)))
    elif part.is_Pow and part.exp.is_Integer:
        yield from (g * part.exp * part.base ** (part.exp - 1), sp.S.Zero)
    elif not part.is_Symbol:
        raise TypeError(f"no gradient of {part.func} is known")


def readable(expression: sp.Expr) -> sp.Expr | None:
    """The expression in SymPy's own functions, for readers; None where it has what is easier to read as code."""
    if any(type(part).shown is None for part in expression.atoms(Operation)):
        return None
    return expression.replace(lambda part: isinstance(part, Operation), lambda part: type(part).shown(*part.args))
