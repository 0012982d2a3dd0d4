"""What result files say of what made them: the fingerprint of the data, and the commit of the code."""

import subprocess

import numpy as np
import pytest
import xarray as xr

from hybridsam.core import modules, provenance
from hybridsam.core.provenance import fingerprint, git_commit

# Data


def test_fingerprint_ignores_attributes_and_the_order_of_variables(dataset):
    changed = dataset[list(dataset.data_vars)[::-1]].assign_attrs(history="yesterday")
    changed["state"].attrs["units"] = "furlong"
    assert fingerprint(changed) == fingerprint(dataset)


def change_state(data):
    data["state"][-1, 0, 1] += 1e-15


def change_time(data):
    data.coords["time"] = data["time"] + 1e-12


def change_split(data):
    data["split"][0] = "test"


def change_name(data):
    data["other"] = data["state"]


def swap_samples(data):
    data["state"][:2] = data["state"].values[1::-1]


@pytest.mark.parametrize("change", [change_state, change_time, change_split, change_name, swap_samples])
def test_fingerprint_changes_with_any_value(dataset, change):
    changed = dataset.copy(deep=True)
    change(changed)
    assert fingerprint(changed) != fingerprint(dataset)


def test_fingerprint_changes_with_dimensions_and_text_boundaries():
    def text(*labels):
        return xr.Dataset({"label": ("x", np.array(labels, dtype=object))})

    square = xr.Dataset({"a": (("x", "y"), np.ones((2, 2)))})
    assert fingerprint(square) != fingerprint(square.rename(x="z"))
    assert fingerprint(text("ab", "c")) != fingerprint(text("a", "bc"))


# The commit


def test_commit_is_unknown_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert git_commit() == "unknown"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a package, a science of a user's own beside it, and what that imports; its commit."""

    def git(*command):
        as_someone = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *as_someone, *command], cwd=tmp_path, check=True, capture_output=True, text=True)

    package = tmp_path / "src/hybridsam"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", "one": "import hybridsam.two", "two": "", "three": ""}.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/tank.py").write_text("import hybridsam.one\nimport tools\n")
    (tmp_path / "tools.py").write_text("")
    git("init", "-q"), git("add", "."), git("commit", "-q", "-m", "all")
    monkeypatch.chdir(tmp_path)
    for module in (provenance, modules):
        monkeypatch.setattr(module, "PACKAGE", package)
    for kept in (known := (provenance.imported, provenance._public)):  # of the package that stood there before
        kept.cache_clear()
    yield tmp_path, git("rev-parse", "HEAD").stdout.strip()
    for kept in known:
        kept.cache_clear()


def test_the_commit_names_the_files_that_it_does_not_hold(repository):
    """Of what a task consists of: changed ones, those that git does not know or ignores, and no other."""
    root, commit = repository
    assert git_commit("mine/tank.py") == git_commit() == commit
    (root / "README.md").write_text("not code")
    (root / "src/hybridsam/three.py").write_text("unused = 1")
    assert git_commit("mine/tank.py") == commit
    assert git_commit() == f"{commit} with local changes: hybridsam/three.py (changed)"
    (root / "src/hybridsam/two.py").write_text("used = 1")
    (root / "mine/pump.py").write_text("import hybridsam.one\nimport helper")
    (root / "helper.py").write_text("")
    (root / ".gitignore").write_text("helper.py")
    found = git_commit("mine/pump.py").removeprefix(f"{commit} with local changes: ").split(", ")
    assert set(found) == {"mine/pump.py (not in git)", "helper.py (not in git)", "hybridsam/two.py (changed)"}


def test_a_science_of_another_repository_is_named_with_its_commit(repository, tmp_path_factory, monkeypatch):
    """And one that is in none."""
    _, commit = repository
    other = tmp_path_factory.mktemp("other")
    (other / "pump.py").write_text("")
    assert git_commit(str(other / "pump.py")) == f"{commit} with local changes: {other}/pump.py (not in git)"
    monkeypatch.chdir(other)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    own = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert git_commit("pump.py") == f"{commit} with local changes: pump.py (of commit {own})"


def test_a_file_that_cannot_be_followed_does_not_keep_results_from_being_written(repository):
    root, commit = repository
    (root / "mine/tank.py").write_text("def (")
    assert git_commit("mine/tank.py") == commit and git_commit("mine/absent.py") == commit


def test_the_commit_of_a_repository_that_only_surrounds_the_package_is_not_its_commit(repository, monkeypatch):
    """As of an environment in a folder under version control."""
    root, _ = repository
    (root / ".venv/hybridsam").mkdir(parents=True)
    (root / ".venv/hybridsam/one.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", root / ".venv/hybridsam")
    assert git_commit() == "unknown"
