"""Derive envs/environment.yaml, for conda, from pyproject.toml (what is needed) and envs/pins.txt (which versions).

python envs/derive.py            rewrite environment.yaml
python envs/derive.py --check    change nothing; exit 1 if environment.yaml drifted
python envs/derive.py --renew    first rewrite the versions in pins.txt: those installed for this interpreter
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT, PINS, CONDA = ROOT / "pyproject.toml", ROOT / "envs/pins.txt", ROOT / "envs/environment.yaml"

CONDA_NAMES = {"torch": "pytorch", "cf-xarray": "cf_xarray"}  # where they differ in more than letter case
PIP_ONLY = {"causalchamber", "pytorch-optimizer"}  # not packages of the channels below
CUDA = ("nvidia-", "cuda-", "triton")  # only under some builds of torch, which pins them itself

HEADER = """\
# Derived from pyproject.toml and envs/pins.txt by `python envs/derive.py`: do not edit.
# The environment that is tested is the one of `make environment`; this file is not tested where conda is unavailable.
# Only the direct dependencies are pinned here, and hybridsam itself is not in it: afterwards
#     pip install --no-deps -e .
"""


def normal(name: str) -> str:
    """The one spelling of a package's name that pip compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    """The requirements of the library and of its extras, as pyproject.toml states them."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return sum(project["optional-dependencies"].values(), project["dependencies"])


def direct() -> list[str]:
    """The normalised names of the direct dependencies."""
    return [normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements()]


def pins() -> dict[str, str]:
    """The version of every package in pins.txt, by normalised name."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {normal(name): version.strip() for name, version in pairs}


def closure() -> dict[str, str]:
    """Name and version of every installed package that the direct dependencies lead to, themselves included."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(name, "") for name in direct()]  # (package, one of its extras or "")
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = distribution(name)
        found[package.metadata["Name"]] = package.version.split("+")[0]
        for requirement in map(Requirement, package.requires or []):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            if wanted and not normal(requirement.name).startswith(CUDA):
                todo += [(normal(requirement.name), each) for each in ("", *requirement.extras)]
    return found


def renewed_pins() -> str:
    """Text of pins.txt: its own header, and the versions that are installed."""
    header = [line for line in PINS.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#")]
    return "".join(header) + "".join(
        f"{name}=={v}\n" for name, v in sorted(closure().items(), key=lambda p: normal(p[0]))
    )


def conda_file() -> str:
    """Text of environment.yaml."""
    python = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"]
    versions = pins()
    lines = ["name: hybridsam", "channels:", "  - conda-forge", "  - bioconda", "  - nodefaults", "dependencies:"]
    lines += [f"  - python {python}", "  - pip"]
    for name in (name for name in direct() if name not in PIP_ONLY):
        version = re.sub(r"\.post\d+$", "", versions[name])  # a post-release is a matter of the wheel
        lines.append(f"  - {CONDA_NAMES.get(name, name)} ={version}")
    lines += ["  - pip:", *(f"      - {name}=={versions[name]}" for name in direct() if name in PIP_ONLY)]
    return HEADER + "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; exit 1 if environment.yaml drifted")
    what.add_argument("--renew", action="store_true", help="first rewrite pins.txt from what is installed")
    options = parser.parse_args()
    if options.renew:
        PINS.write_text(renewed_pins(), encoding="utf-8")
    missing = [name for name in direct() if name not in pins()]
    if missing:
        sys.exit(f"{PINS.name} has no version of: {', '.join(missing)}. Its first lines say how to renew it.")
    if not options.check:
        CONDA.write_text(conda_file(), encoding="utf-8")
    elif not CONDA.exists() or CONDA.read_text(encoding="utf-8") != conda_file():
        print("envs/environment.yaml does not follow from pyproject.toml and envs/pins.txt: run python envs/derive.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
