# `make demo` and `make test` need Python 3.11, and nothing that is not in this repository's own files.
PYTHON ?= python3.11
VENV   ?= .venv
# Without a GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu avoids the CUDA download.
TORCH_INDEX ?=
BIN := $(VENV)/bin

.PHONY: demo test lint install clean

demo: install
	$(BIN)/slt demo

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
