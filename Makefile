# Everything runs in .venv, made on first use; PYTHON names the interpreter it is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help train rivals test stress check lint types format docs bench wheel clean

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "idl needs Python 3.10 to 3.13, not " + sys.version.split()[0] + "; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchidl==0.0.4 torchdeq==0.1.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: skglm==0.5 numba llvmlite celer==0.7.4 adelie==1.1.52 ipython traitlets decorator || echo "the Lasso packages cannot be had here: sim_solvers leaves out those that are missing"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: optimistix==0.1.0 jax==0.10.2 jaxlib==0.10.2 equinox==0.13.8 lineax==0.1.1 jaxtyping==0.3.11 wadler-lindig ml_dtypes opt_einsum || echo "optimistix cannot be had here: equilibria leaves it out"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps silva-networks==1.2.2 || echo "silva-networks cannot be had here: equilibria leaves it out"
	@touch $(BENCH_STAMP)

rivals: $(BENCH_STAMP) ## install the packages that the benchmarks and some tests compare with

train: $(STAMP) ## set up, then train an implicit model on the digits that come with scikit-learn
	$(BIN)/idl train

test: $(STAMP) ## set up, then run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile --no-loadscope-reorder

stress: $(STAMP) ## damaged files, killed runs, random problems: ten minutes (SECONDS=600 SEED=0)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.stress $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

lint: $(STAMP) ## ruff: style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

check: lint types test ## everything that must pass before a commit lands

format: $(STAMP) ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(BENCH_STAMP) ## measure beside the peers (ROOT=DIR: Fashion-MNIST files); figures to benchmarks/results
	$(BIN)/python -m benchmarks $(if $(ROOT),--root $(ROOT))

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
