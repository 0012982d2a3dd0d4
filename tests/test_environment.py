"""The environment is stated once: pyproject.toml names packages, envs/pins.txt versions, the rest is derived."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hybridsam

ROOT = Path(__file__).resolve().parents[1]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="pins.txt lists what Linux needs")

spec = importlib.util.spec_from_file_location("derive", ROOT / "envs/derive.py")
derive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(derive)


def run_derive(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "envs/derive.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A root with only the files that derive.py reads and writes."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    return tmp_path


def test_every_direct_dependency_is_pinned():
    assert set(derive.direct()) <= set(derive.pins())


@on_linux
def test_every_indirect_dependency_is_pinned():
    assert {derive.normal(name) for name in derive.closure()} <= set(derive.pins())


def test_pins_are_exact_versions_of_any_build():
    lines = [line for line in derive.PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert not wrong


@on_linux
def test_pins_match_what_is_installed():
    pins = derive.pins()
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in pins}
    assert installed == pins


def test_conda_file_follows_from_the_two_sources():
    result = run_derive(ROOT, "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_drift_is_noticed_and_repaired(copy: Path):
    pins = copy / "envs/pins.txt"
    pins.write_text(re.sub(r"(?m)^numpy==.*$", "numpy==0.0.1", pins.read_text(encoding="utf-8")), encoding="utf-8")
    assert run_derive(copy, "--check").returncode == 1
    assert run_derive(copy).returncode == 0
    assert "numpy =0.0.1" in (copy / "envs/environment.yaml").read_text(encoding="utf-8")
    assert run_derive(copy, "--check").returncode == 0


def test_a_missing_pin_is_named(copy: Path):
    pins = copy / "envs/pins.txt"
    pins.write_text(re.sub(r"(?m)^scipy==.*\n", "", pins.read_text(encoding="utf-8")), encoding="utf-8")
    result = run_derive(copy, "--check")
    assert result.returncode == 1
    assert "scipy" in result.stderr


def test_the_citation_names_this_version():
    version = re.search(r"(?m)^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version.group(1) == hybridsam.__version__
