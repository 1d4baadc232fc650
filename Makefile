# make demo    pretrain a small GPT-2 on the built-in corpus
# make test    every test
# make lint    what ruff and mypy find
# make notebooks    run the notebooks and write their .ipynb, with outputs
# Each sets up .venv first where there is none.

PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS ?= $(wildcard notebooks/*.py)

.PHONY: demo test lint notebooks

demo: .venv/ready
	$(BIN)/zoo pretrain gpt2-tiny --resume

# What runs a few times need not be compiled well: a third less time. A program that two tests or two
# runs of the tests need is compiled once (JAX's cache), and the tests of one file share a process.
test: .venv/ready
	OMP_NUM_THREADS=1 JAX_DISABLE_MOST_OPTIMIZATIONS=1 JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
		JAX_COMPILATION_CACHE_DIR="$${JAX_COMPILATION_CACHE_DIR:-$(CURDIR)/.venv/compiled}" \
		$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

notebooks: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[notebooks]'
	for source in $(NOTEBOOKS); do \
		$(BIN)/jupytext --to ipynb --execute $$source || exit 1; \
	done

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@
