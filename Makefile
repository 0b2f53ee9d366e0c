# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNEL := CMakeLists.txt $(wildcard src/cnnzoo/kernel/csrc/*)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE ?=

.PHONY: repro study check test faults lint types format bench sanitize ui clean help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: $(VENV)/installed ## Run the whole pipeline on the embedded data set
	@if git rev-parse --git-dir > /dev/null 2>&1; then dvc config --quiet --local --unset core.no_scm || true; \
	else dvc config --local core.no_scm true; fi # a source tree without git, such as a downloaded ZIP
	dvc repro

STATISTICS := wstats-layers:0,1,2,3-qts:0,25,50,75,100
study: $(VENV)/installed ## Tune all predictors on all input sets of the paper, and on those beyond it (hours)
	dvc repro -q
	GIT_AUTHOR_NAME=cnnzoo GIT_AUTHOR_EMAIL=cnnzoo@localhost GIT_COMMITTER_NAME=cnnzoo GIT_COMMITTER_EMAIL=cnnzoo@localhost \
	  dvc exp run -S 'features.sets=[published,"wspectra-layers:0,1,2,3","wchannels-layers:0,1,2,3","wproducts-layers:0,1,2,3",probes,"$(STATISTICS)+probes"]' \
	  -S 'search.predictors=[linear,catboost,dnn,learned_probes,stack]' -S '+search.only.learned_probes=[weights,"hyper+weights"]' \
	  -S '+search.only.stack=[hyper,"$(STATISTICS)",probes,"$(STATISTICS)+probes"]' \
	  -S 'search.trials=30' -S 'search.max_trees=1000' -S 'search.max_epochs=300'

test: $(VENV)/installed ## Run the tests, a file on each core
	python -m pytest -n auto

check: $(VENV)/installed ## Check style and types and run the fast tests: about a minute
	$(MAKE) --no-print-directory lint types
	python -m pytest -n auto -m "not slow"

faults: $(VENV)/installed ## Put 871 faults in, one at a time, and see that the tests notice (about an hour); ONLY="name ..." picks some
	PYTHONPATH=tests python -m faults $(ONLY)

lint: $(VENV)/installed ## Check style
	ruff check .
	ruff format --check .

format: $(VENV)/installed ## Format the code
	ruff format .
	ruff check --fix .

types: $(VENV)/installed ## Check types
	mypy

bench: $(VENV)/installed ## Measure: training, assembly, features, tracking
	for script in benchmarks/[a-z]*.py; do python $$script || exit 1; done

sanitize: $(VENV)/installed ## Test the kernel under AddressSanitizer and UBSan, and built for other instruction sets
	python tests/training/native_builds.py

ui: $(VENV)/installed ## Open MLflow on the tracked runs
	cnnzoo ui

clean: ## Remove the environment and what was built; data, models and runs stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache

$(VENV)/installed: pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cnnzoo needs Python 3.11 or newer; try `make PYTHON=python3.11`")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (some minutes the first time) ..."
	$(PIP_INSTALL) cmake nanobind ninja scikit-build-core setuptools wheel
	$(PIP_INSTALL) --no-build-isolation --editable '.[build,dev]'
	touch $@
