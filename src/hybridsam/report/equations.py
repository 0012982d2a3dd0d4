"""The equations of a task as HTML: its vector field as formulas where it can be followed, and what its module says."""

import ast
import html
import importlib.util
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent

import sympy as sp
import xarray as xr

from hybridsam.core import modules
from hybridsam.models.hybrid import is_of
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.operations import readable
from hybridsam.models.symbolic import record
from hybridsam.report.fragments import found_above

DIGITS = 6  # of numbers in formulas

Rates = dict[sp.Symbol, sp.Expr]


def as_html(cube: xr.Dataset, states: Sequence[str]) -> str:
    """The vector field, typeset in MathML or as its code, and the documentation of the task's module.

    That says what is left out. states: name and unit of each component of the state.
    """
    text, rates = documentation(cube) or f"{_module(cube)} is not documented", vector_field(cube)
    code = "" if rates else vector_field_as_code(cube)
    said = f"<p>dx/dt is not one formula a component; in code, it is this:</p><pre>{html.escape(code)}</pre>"
    return f"{_typeset(rates, states)}<pre>{html.escape(text)}</pre>" + said * bool(code)


def documentation(cube: xr.Dataset) -> str | None:
    """The docstring of the task's module, which need not run; None if there is none."""
    module = _module(cube)
    file = module if module.endswith(".py") else getattr(importlib.util.find_spec(module), "origin", None)
    return ast.get_docstring(ast.parse(Path(file).read_text())) if file and Path(file).is_file() else None


def vector_field(cube: xr.Dataset) -> Rates:
    """Component of the state -> its rate, in theta's names, x and g; empty where that is no formula of components."""
    model = _ode(cube)
    if model is None or not isinstance(model.network, MLP) or not is_of(model, HybridODE, "predict"):
        return {}
    names, n_x, n_g = model.parameters.names, model.network.sizes[0], model.network.sizes[-1]
    try:
        rates = [readable(rate) for rate in record(model.field, names, n_x, n_g)["field"]]
    except Exception:  # of a user's module, or because it cannot be followed: then its code is shown
        return {}
    theta, x, g = list(map(sp.Symbol, names)), _numbered("x", n_x), _numbered("g", n_g)
    if len(rates) != n_x or set(theta) & {*x, *g} or None in rates:
        return {}  # another state than the network sees; a name for two things; cases, easier to read as code
    named = {"theta": theta, "x": x, "g": g}
    symbols = {f"{letter}[{i}]": symbol for letter, of in named.items() for i, symbol in enumerate(of)}
    return dict(zip(x, (_named(rate, symbols) for rate in rates), strict=True))


def vector_field_as_code(cube: xr.Dataset) -> str:
    """The source of the science, and of ``field`` and ``predict`` where a model has its own; empty for other models."""
    model = _ode(cube)
    if model is None:
        return ""
    own = [getattr(type(model), name) for name in ("field", "predict") if not is_of(model, HybridODE, name)]
    return "\n\n".join(filter(None, map(_source, [model.science, *own])))


def _source(function: Callable) -> str:
    try:
        return dedent(inspect.getsource(function)).strip()
    except (OSError, TypeError):  # it has no file, or is no function
        return ""


def _ode(cube: xr.Dataset) -> HybridODE | None:
    """The model of a task that has a vector field; None where its module makes another one, or none any more."""
    try:
        model = modules.build(json.loads(cube.attrs["configuration"]) | {"module": _module(cube)})
    except Exception:  # of a user's module, which may have changed since: what it says is shown anyway
        return None
    return model if isinstance(model, HybridODE) else None


def _module(cube: xr.Dataset) -> str:
    """Name of the task's module, or the path of its file, which is looked for in the folders above too."""
    module = json.loads(cube.attrs["configuration"])["module"]
    return str(found_above(module) or module) if module.endswith(".py") else module


def _numbered(letter: str, n: int) -> list[sp.Symbol]:
    return [sp.Symbol(letter)] if n == 1 else [sp.Symbol(f"{letter}_{i + 1}") for i in range(n)]


def _named(rate: sp.Expr, symbols: dict[str, sp.Symbol]) -> sp.Expr:
    """A recorded formula in these symbols, and with short numbers."""
    short = {n: sp.Integer(n) if float(n).is_integer() else sp.Float(n, DIGITS) for n in rate.atoms(sp.Float)}
    return rate.xreplace(short | {symbol: symbols[symbol.name] for symbol in rate.free_symbols})


def _typeset(rates: Rates, states: Sequence[str]) -> str:
    """A line for each component, and what the symbols are."""
    if not rates:
        return ""
    lines = [
        f'<math display="block"><mfrac><mrow><mi>d</mi>{_mathml(x)}</mrow><mrow><mi>d</mi><mi>t</mi></mrow></mfrac>'
        f"<mo>=</mo>{_network_last(rate)}</math>"
        for x, rate in rates.items()
    ]
    named = zip(rates, states, strict=False)  # no state has a name where no figure tells it
    meanings = "".join(f"<math>{_mathml(x)}</math>: {html.escape(state)}; " for x, state in named)
    return f"{''.join(lines)}<p>{meanings}<math><mi>g</mi></math>: the network, a function of the whole state.</p>"


def _network_last(rate: sp.Expr) -> str:
    """A rate to which the network's output is added, with that at its end; any other as SymPy writes it."""
    added = [term for term in sp.Add.make_args(rate) if term.is_Symbol and term.name.partition("_")[0] == "g"]
    if len(added) != 1 or rate == added[0]:
        return _mathml(rate)
    return f"{_mathml(rate - added[0])}<mo>+</mo>{_mathml(added[0])}"


def _mathml(expression: sp.Expr) -> str:
    text = sp.mathml(expression, printer="presentation")
    return text.replace("&ExponentialE;", "e").replace("<mo>-</mo>", "<mo>−</mo>")
