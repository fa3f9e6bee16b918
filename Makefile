# refit: everything that people do here, by name. `make help` explains.

PROFILE ?= smoke
EXPERIMENTS ?=
SEEDS ?=
WORKERS ?=
DATA_DIR ?=
EXECUTOR ?=
BENCH ?=
STRESS_SECONDS ?= 900
FAULTS ?=
PACK ?=
PYTHON ?= python3

# Recipes read these from the environment, as typed: neither make nor the shell runs what is in them.
VARIABLES := PROFILE EXPERIMENTS SEEDS WORKERS DATA_DIR EXECUTOR BENCH STRESS_SECONDS FAULTS PACK
NAMED := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(strip $(filter-out $(VARIABLES) PYTHON,$(NAMED)))
$(if $(UNKNOWN),$(error $(UNKNOWN): unknown; the variables are $(VARIABLES) PYTHON))
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
OPTIONS := --profile "$$PROFILE" --data-dir "$$DATA_DIR" $${SEEDS:+--seeds "$$SEEDS"} -- $$EXPERIMENTS
AT_ONCE := $${WORKERS:+--workers "$$WORKERS"}
WHERE := $${EXECUTOR:+--executor "$$EXECUTOR"}

# An environment names its own folder and the Python that made it: where it was copied or moved, that
# Python is gone, or PYTHON names another, it is made anew.
MAKER := import sys; print(sys.base_prefix, sys.version)
ASKED := $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
$(shell [ ! -e $(READY) ] || { pwd -P; $(ASKED) -c '$(MAKER)'; } 2>&1 | cmp -s - $(READY) || rm -f $(READY) $(EXTRAS))
export PIP_USER := 0

.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup extras reproduce report pack import plan status test stress bench calibrate lint format notebooks tensorboard jupyter lock clean

help: ## show this help
	echo "refit: reproduce published reports of convolutional-network experiments"
	echo
	awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	echo
	echo "Variables, for example: make reproduce EXPERIMENTS=fmnist_zoo PROFILE=small DATA_DIR=~/data"
	echo "  PROFILE        smoke (embedded data, default), small (a laptop, real data), full (as published)"
	echo "  EXPERIMENTS    names from experiments/, separated by spaces; all where empty"
	echo "  WORKERS        trainings at once; one per core of the job where empty"
	echo "  SEEDS          replicates of every trial, to try things; as declared where empty"
	echo "  EXECUTOR       where trials are trained: local (default), or ray, on a cluster of machines"
	echo "  BENCH          what to measure: sweep, fixed_cost, limit, profile, real_data, plan, analysis, resume,"
	echo "                 second_run; all where empty"
	echo "  PACK           files to import, separated by spaces, or the folder to write packs into"
	echo "  DATA_DIR       folder that holds your data sets; else Keras's cache, else a download"

setup: $(READY) ## make the virtual environment .venv with the pinned packages

# uv installs what pip would in less than half the time; where it cannot, as with an index that only
# pip knows, pip does. Modules are compiled here once: where PYTHONDONTWRITEBYTECODE is set, every
# process would do it anew. The package itself is installed in place.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --compile
UV_INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
install = $(UV_INSTALL) $(1) 2> /dev/null || $(PIP_INSTALL) $(1)
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "refit needs Python 3.11 to 3.13, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	echo "setting up the environment in $(VENV), one to three minutes"
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) "$$(grep ^uv== requirements.txt)" || true
	$(call install,-r requirements.txt)
	$(call install,--no-deps --editable .)
	$(BIN)/python -m ipykernel install --sys-prefix --name refit --display-name refit > /dev/null
	{ pwd -P; $(BIN)/python -c '$(MAKER)'; } > $@

extras: $(EXTRAS) ## add what is optional: MLflow, for `refit export mlflow`; Ray, for EXECUTOR=ray

$(EXTRAS): $(READY) requirements-extras.txt
	$(call install,-c requirements.txt -r requirements-extras.txt)
	touch $@

reproduce: setup ## train what is missing and make the report pages
	set -f; $(BIN)/refit reproduce $(AT_ONCE) $(WHERE) $(OPTIONS)

report: setup ## make the report pages from the results at hand, without training
	set -f; $(BIN)/refit report $(OPTIONS)

pack: setup ## pack the finished trials of PROFILE, one file per sweep, into results/packs, or the folder PACK
	set -f; $(BIN)/refit pack --profile "$$PROFILE" $${PACK:+--out "$$PACK"} -- $$EXPERIMENTS

import: setup ## add the trials of the packs that PACK names to those here
	set -f; $(BIN)/refit import -- $$PACK

status: setup ## show what is done, failed and missing
	set -f; $(BIN)/refit status $(OPTIONS)

plan: setup ## show how much would be trained, for how long and, as published, for how many claims
	set -f; $(BIN)/refit plan $(AT_ONCE) $(OPTIONS)

# The notebooks are run on smoke data in a fresh folder, so that old results cannot hide a fault.
test: extras ## run the tests and, with nbval, the notebooks
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	export REFIT_RUNS="$$folder/runs" REFIT_REPORTS="$$folder/reports" && \
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests && \
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --nbval-lax --nbval-current-env notebooks

calibrate: setup ## judge made-up trainings to see how often verdicts are wrong: reports/calibration.md, 2 minutes
	$(BIN)/python -m bench.calibrate

# sweep, fixed_cost, limit and real_data take 40 minutes on 2 idle cores.
bench: setup ## measure speed beside the usual ways and write reports/bench.md
	set -f; $(BIN)/python -m bench --data-dir "$$DATA_DIR" -- $$BENCH

stress: setup ## kill, fill and damage what can be, for real: 15 minutes; STRESS_SECONDS=300, FAULTS=disk_full
	set -f; cd tests && ../$(BIN)/python -m stress --seconds "$$STRESS_SECONDS" -- $$FAULTS

lint: setup ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: setup ## run the notebooks and store the outputs that nbval compares
	$(BIN)/refit notebooks

tensorboard: setup ## compare the trainings of one experiment, EXPERIMENTS, in TensorBoard
	set -f; $(BIN)/refit tensorboard --profile "$$PROFILE" -- $$EXPERIMENTS

jupyter: setup ## open the notebooks
	$(BIN)/jupyter lab --notebook-dir notebooks --ip localhost

lock: setup ## compile the dependencies of pyproject.toml into requirements.txt
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --no-header --output-file requirements.txt

clean: ## remove the virtual environment and the caches; runs/ and reports/ stay
	rm -rf $(VENV) .hypothesis .pytest_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
