"""The equations on the pages: those that the code computes, in the names of theta, or none but what the module says."""

import json
from textwrap import dedent

import pandas as pd
import pytest
import sympy as sp
import xarray as xr
from bs4 import BeautifulSoup
from helpers import small

from hybridsam.core import settings
from hybridsam.report import equations, task_page


def cube_with(module: str, model: dict) -> xr.Dataset:
    return xr.Dataset(attrs={"configuration": json.dumps({"module": module, "model": model})})


def shipped(task: str) -> xr.Dataset:
    chosen = small.settings_of(task)
    return cube_with(chosen["module"], chosen["model"])


@pytest.mark.parametrize(
    ("task", "rates"),
    [
        ("pendulum", ["x_2 + g_1", "-omega**2*sin(x_1) + g_2"]),
        ("duffing", ["x_2 + g_1", "-alpha*x_1 + g_2"]),
    ],
)
def test_a_vector_field_is_written_in_the_names_of_theta(task, rates):
    found = equations.vector_field(shipped(task))
    names = {str(symbol): symbol for rate in found.values() for symbol in rate.free_symbols}
    assert [str(x) for x in found] == ["x_1", "x_2"]
    assert [rate - sp.sympify(text, names) for rate, text in zip(found.values(), rates, strict=True)] == [0, 0]
    page = BeautifulSoup(task_page.equations(shipped(task), ["position (m)", "v < c"]), "html.parser")
    assert len(page.find_all("math", display="block")) == 2
    assert "x1: position (m); x2: v < c; g: the network" in page.p.get_text()
    assert page.pre.get_text().startswith(equations.documentation(shipped(task))[:20])


def test_states_have_the_names_and_units_of_the_figures(tmp_path):
    (tmp_path / "figures").mkdir()
    drawn = {"unit": ["1", "rad s-1", "1", None], "component": ["u", "v", "u", None], "value": 0.5}
    for table, expected in ((pd.DataFrame(drawn), ["u", "v (rad s⁻¹)"]), (pd.DataFrame({"unit": ["1"]}), [])):
        table.to_csv(tmp_path / "figures/predictions.csv", index=False)
        assert task_page.states(tmp_path) == expected


def test_a_field_of_ones_own_is_followed_and_its_numbers_are_short():
    task = settings.load(str(small.ROOT / "examples/chemostat.yaml"))
    found = equations.vector_field(cube_with(str(small.ROOT / task["module"]), task["model"]))
    s, x, g, mu, k = sp.symbols("x_1 x_2 g mu k")
    growth = mu * s / (k + s) * x * sp.exp(g)
    expected = [0.2 * (4 - s) - growth / 0.5, growth - 0.2 * x]
    at = {s: 0.7, x: 1.3, g: 0.2, mu: 0.9, k: 0.4}
    for rate, known in zip(found.values(), expected, strict=True):
        assert float(rate.subs(at)) == pytest.approx(float(known.subs(at)))
    assert "0.20000" not in task_page.equations(cube_with(str(small.ROOT / task["module"]), task["model"]))


@pytest.mark.parametrize(
    "cube",
    [shipped("reaction_diffusion"), shipped("light_sensors"), shipped("pendulum_images"), cube_with("gone.py", {}),
     cube_with("hybridsam.tasks.pendulum", {})],
    ids=["grid", "law", "images", "no module", "no settings"],
)  # fmt: skip
def test_what_cannot_be_followed_leaves_the_documentation(cube):
    assert equations.vector_field(cube) == {}
    assert task_page.equations(cube).startswith("<pre>")


OWN = """
import torch
from hybridsam import MLP, HybridODE, Parameters, Solver

def build(model):
    theta = Parameters.from_settings(model["theta"])
    return HybridODE(lambda theta, x: {science}, theta, MLP((1, 4, 1)), Solver("rk4", 1))
"""


@pytest.mark.parametrize(
    ("name", "science", "rates"),
    [
        ("k", "-theta['k'] * x", "{x: g - k*x}"),
        ("g", "-theta['g'] * x", "{}"),  # which would look like the network
        ("k", "torch.relu(theta['k'] * x)", "{}"),  # a formula of two cases
    ],
)
def test_a_formula_that_would_mislead_is_not_written(tmp_path, name, science, rates):
    (tmp_path / "own.py").write_text(OWN.format(science=science))
    model = {"theta": {name: {"unit": "1", "start": 1.0}}}
    assert str(equations.vector_field(cube_with(str(tmp_path / "own.py"), model))) == rates


OWN_FIELD = """
import torch
from hybridsam import MLP, HybridODE, Parameters, Solver

def growth(theta, x):
    return theta["k"] * x

class Harvested(HybridODE):
{methods}

def build(model):
    return Harvested(growth, Parameters.from_settings(model["theta"]), MLP((1, 4, 1)), Solver("rk4", 1))
"""


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("field(self, theta, x, g)", "self.science(theta, x) - torch.nn.functional.softplus(g) * x", True),
        ("field(self, theta, x, g)", "self.science(theta, x) * (x < 2) + g", True),
        ("field(self, theta, x, g)", "self.science(theta, x) - g.clamp(min=0)", True),  # a formula of two cases
        ("predict(self, theta, phi, data, running=None)", "super().predict(2 * theta, phi, data)", True),
        ("field(self, theta, x, g)", "self.science(theta, x) - x * torch.exp(g)", False),
    ],
)
def test_a_field_of_ones_own_is_a_formula_or_its_code(tmp_path, method, body, code):
    """Nothing vanishes: what is no formula is shown as it stands in the file, with the science that it joins."""
    own = f"    def {method}:\n        return {body}"
    (tmp_path / "own.py").write_text(OWN_FIELD.replace("{methods}", own))
    page = task_page.equations(cube_with(str(tmp_path / "own.py"), {"theta": {"k": {"unit": "1", "start": 1.0}}}))
    page = BeautifulSoup(page, "html.parser")
    shown = [block.get_text() for block in page.find_all("pre")]
    assert bool(page.find_all("math")) != code and len(shown) == 1 + code
    if code:
        assert shown[1].startswith("def growth(theta, x):") and shown[1].endswith(dedent(own))
        assert "in code, it is this" in page.p.get_text()


def test_a_module_of_ones_own_is_found_from_the_folder_of_the_notebooks(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "lynx.py").write_text('"""What lynxes do."""\n')
    monkeypatch.chdir(tmp_path / "notebooks")
    assert task_page.equations(cube_with("lynx.py", {})) == "<pre>What lynxes do.</pre>"
    assert task_page.equations(cube_with("hare.py", {})) == "<pre>hare.py is not documented</pre>"


def test_a_formula_of_roots_and_signs_is_written_in_the_functions_of_mathematics(tmp_path):
    (tmp_path / "own.py").write_text(OWN.format(science="-theta['k'] * torch.sign(x) * torch.sqrt(torch.abs(x))"))
    model = {"theta": {"k": {"unit": "1", "start": 1.0}}}
    cube = cube_with(str(tmp_path / "own.py"), model)
    assert str(equations.vector_field(cube)) == "{x: g - k*sqrt(Abs(x))*sign(x)}"
    [line] = BeautifulSoup(task_page.equations(cube), "html.parser").find_all("math", display="block")
    assert line.msqrt and "sign" in line.get_text() and "|" in line.get_text()
