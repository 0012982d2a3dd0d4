# The environment, the default study and the checks. Plain `make` prints what there is.
# The library and the workflow do not need this file: README.md says how to run them in an environment of your own.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

# Names are relative, and the shell, not make, inserts the folder's name: it may contain spaces.
DONE := .venv/.installed
RUN := PATH="$$PWD/.venv/bin:$$PATH"

# What an activated environment, or a cluster's module, leaves behind must not reach ours.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

.DEFAULT_GOAL := help
.PHONY: help report check test test-slurm style new-task bench format environment clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: CORES=$(CORES) PYTHON=$(PYTHON)"

report: $(DONE)  ## run the default experiment (config/config.yaml) and write its report
	$(RUN) snakemake --cores $(CORES) report

check: style  ## run what takes minutes: style, types, lint of the workflow, environment, and the quick tests
	$(RUN) pytest -n $(CORES) --maxprocesses 8 -m "not slow and not slurm"

test: style  ## run every check and test, those on SLURM included where it can run
	$(RUN) pytest -n $(CORES) --maxprocesses 8 -m "not slurm"
	$(MAKE) test-slurm

test-slurm: $(DONE)  ## run the workflow on a SLURM cluster on this machine (root; docs/cluster.md)
	$(RUN) pytest -n $(CORES) --maxprocesses 2 --dist loadfile -m slurm

style: $(DONE)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) mypy
	$(RUN) snakemake --lint
	$(RUN) python envs/derive.py --check

new-task: $(DONE)  ## lay out a scientific model of your own, from a template that runs: make new-task NAME=lynx
	$(RUN) python -m hybridsam new-task "$(NAME)"

bench: $(DONE)  ## measure training speed against peers on one core, an hour (benchmarks/README.md)
	$(RUN) python benchmarks/compare.py

format: $(DONE)  ## rewrite the code in the style that `make test` demands
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) snakefmt Snakefile workflow

environment: $(DONE)  ## make or update .venv; the other targets do so by themselves

clean:  ## remove caches and build products; results, resources and .venv stay
	rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# A .venv that was moved or copied here still belongs to its old folder: its pip names the Python that it runs.
IS_OURS := grep -qF "$$(pwd -P)/.venv/bin/" .venv/bin/pip 2>/dev/null
ifneq (yes,$(shell $(IS_OURS) && echo yes))
.PHONY: $(DONE)
endif

# .venv is made anew if it is missing, moved, too old or broken, or if an install was killed (.venv/.installing is there);
# otherwise it is updated in place.
$(DONE): pyproject.toml envs/pins.txt
	@if [ -e .venv/.installing ] || ! $(IS_OURS) || \
	    ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    version=`$(PYTHON) --version 2>/dev/null` || version="not there"; \
	    echo "hybridsam needs Python 3.11 or newer; $(PYTHON) is $$version." >&2; \
	    echo "Name another one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu, sudo apt install python3-venv" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear .venv || exit 1; \
	fi; \
	rm -f $(DONE); touch .venv/.installing; \
	echo "Installing what pyproject.toml names into .venv (minutes the first time; log: .venv/install.log)"; \
	.venv/bin/python -m pip install --disable-pip-version-check --no-input -c envs/pins.txt -e ".[workflow,test,bench,notebook]" \
	    >.venv/install.log 2>&1 || { \
	  status=$$?; tail -n 20 .venv/install.log >&2; rm -f .venv/.installing; exit $$status; }; \
	rm -f .venv/.installing; touch $(DONE)
