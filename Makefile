.PHONY: demo test check bench clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

demo: $(VENV)/.base  ## from nothing to classified complaints on screen, base install only
	@$(BIN)/jiesu classify "小区自来水管老化渗水,居民用水困难,反映多次没人管"
	@$(BIN)/jiesu classify --file data/demo.csv

test: $(VENV)/.dev  ## from nothing to a passing suite
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## lint, types and the docs' examples
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest tests/test_docs.py

bench: $(VENV)/.dev  ## peers and our models side by side: accuracy, speed, memory
	$(BIN)/python benchmarks/peers.py

$(VENV)/.base: pyproject.toml hatch_build.py requirements/base.txt $(wildcard jiesu_nlp/native/*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/base.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/dev.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
