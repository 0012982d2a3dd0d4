"""A user's own Python file: whatever is wrong in it is one line with file and line."""

import pytest

from hybridsam.core import modules
from hybridsam.core.errors import UserError

FAULTS = {  # text of the file, and what is said of it
    "unbalanced bracket": ("x = 1\n\n\ndef build(model):\n    return (1,\n", r"own.py, line 5: '\(' was never closed"),
    "indentation": ("def build(model):\nreturn 1\n", r"own.py, line 2: expected an indented block"),
    "unknown name": ("import math\nx = maths.pi\n", r"own.py, line 2: NameError: name 'maths' is not defined"),
    "package that is not there": ("import no_such_package\n", r"cannot import .*own.py.* 'no_such_package'"),
    "no build": ("x = 1\n", r"own.py has no function build"),
    "build that fails": ("def build(model):\n    return model['a'] + 1\n", r"own.py, line 2: TypeError: .*NoneType"),
    "helper that fails": (
        "def helper(model):\n    return [][3]\n\n\ndef build(model):\n    return helper(model)\n",
        r"own.py, line 2: IndexError",
    ),
    "a library that fails": (
        "import numpy as np\n\n\ndef build(model):\n    return np.zeros((2, 3)) @ np.zeros((2, 3))\n",
        r"own.py, line 5: ValueError",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_file_of_ones_own_is_a_line_that_says_where(name, tmp_path):
    text, message = FAULTS[name]
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UserError, match=f"^module: .*{message}") as caught:
        modules.call(str(tmp_path / "own.py"), "build", {"a": None})
    assert "\n" not in str(caught.value)


def test_a_fault_in_a_module_by_name_is_said_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_model.py").write_text("x = [1\n")
    with pytest.raises(UserError, match=r"^module: .*broken_model.py, line 1: '\[' was never closed$"):
        modules.load("broken_model")


def test_what_is_said_in_a_line_already_stays(tmp_path):
    (tmp_path / "own.py").write_text(
        "from hybridsam import UserError\n\n\ndef build(model):\n    raise UserError('theta.k: 7 is too large')\n"
    )
    with pytest.raises(UserError, match=r"^theta.k: 7 is too large$"):
        modules.call(str(tmp_path / "own.py"), "build", {})
