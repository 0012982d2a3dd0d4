"""The command line: every command and its options, exit statuses, and a fast start."""

import inspect
import json
import re
import subprocess
import sys

import pytest
from helpers import small

from hybridsam.cli import command
from hybridsam.cli.command import COMMANDS
from hybridsam.cli.main import main
from hybridsam.core import records
from hybridsam.core.errors import UserError

every_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def settings(tmp_path):
    """A file with the settings of a small pendulum."""
    path = tmp_path / "pendulum.json"
    path.write_text(json.dumps(small.settings_of("pendulum")))
    return path


@pytest.fixture
def declare(monkeypatch):
    """A command ``fail`` that raises something."""

    def commanded(error):
        def fail():
            raise error

        monkeypatch.setitem(COMMANDS, "fail", command.Command(fail, "fail", ()))

    return commanded


@every_command
def test_a_command_takes_exactly_its_options(name):
    names = [option.name.removeprefix("--").replace("-", "_") for option in COMMANDS[name].options]
    assert sorted(names) == sorted(inspect.signature(COMMANDS[name].function).parameters)


@every_command
def test_a_command_explains_itself_and_every_option(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert COMMANDS[name].help in said
    assert all(option.how["help"].strip() and option.name in said for option in COMMANDS[name].options)


def test_a_command_that_succeeds_ends_with_status_0(settings, tmp_path, capsys):
    assert main(["--quiet", "simulate", "--settings", str(settings), "--output", str(tmp_path / "dataset.nc")]) == 0
    assert records.read(tmp_path / "dataset.nc", "dataset").sizes["sample"] == sum(small.SIZES.values())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("rho: -1 is not a number that is zero or larger"), 2, "hybridsam: rho: -1 is not a number"),
        (FileNotFoundError(2, "No such file or directory", "a.nc"), 1, "hybridsam: No such file or directory: a.nc"),
        (OSError("the disk is full"), 1, "hybridsam: the disk is full"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["a mistake", "a missing file", "the system", "an interrupt"],
)
def test_what_goes_wrong_is_one_line_and_an_exit_status(declare, capsys, error, status, line):
    declare(error)
    assert main(["fail"]) == status
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == bool(line)


def test_a_fault_of_the_program_is_not_taken_for_a_mistake(declare):
    declare(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["simulate"], ["simulate", "--settings", "a.yaml"]])
def test_what_cannot_be_parsed_says_how_it_is_meant(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: hybridsam")


def test_settings_are_a_file_and_not_its_content(tmp_path, capsys):
    """As they could be before."""
    output = tmp_path / "dataset.nc"
    assert main(["simulate", "--settings", '{"module": "m"}', "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith("hybridsam: settings: text is not allowed; ")
    assert not output.exists()


def test_a_wrong_value_in_a_file_of_settings_is_named(settings, tmp_path, capsys):
    settings.write_text(settings.read_text().replace("hybridsam.tasks.pendulum", "hybridsam.tasks.pendulun"))
    assert main(["simulate", "--settings", str(settings), "--output", str(tmp_path / "dataset.nc")]) == 2
    assert "module: cannot import 'hybridsam.tasks.pendulun'" in capsys.readouterr().err


def test_commands_are_declared_without_what_takes_long_to_import():
    slow = ("torch", "xarray", "pandas", "matplotlib", "scipy", "numpy")
    code = f"import sys, hybridsam.cli.main as cli; cli.parser(); print([n for n in {slow} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_package_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "hybridsam", "--help"], capture_output=True, text=True, check=True)
    assert all(re.search(rf"(?m)^ +{name}\b", result.stdout) for name in COMMANDS)
    failed = subprocess.run([sys.executable, "-m", "hybridsam", "select", "no.nc", "--output", "a.csv"], check=False)
    assert failed.returncode == 2
