# `make demo` and `make test` need Python 3.11, 3.12 or 3.13, or uv, and nothing that is not in this repository's own
# files. Each name is tried by a start: a manager of Python versions leaves names on the PATH that do not start.
SUITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name $(SUITS) 2> /dev/null && echo $$name && break; done)
UV ?= $(shell command -v uv)
VENV ?= .venv
# The versions to install. Empty: the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# Where torch comes from. Default: PyPI's CUDA build where there is an NVIDIA GPU, PyTorch's CPU build elsewhere.
TORCH_INDEX ?= $(shell command -v nvidia-smi > /dev/null || echo https://download.pytorch.org/whl/cpu)
BIN := $(VENV)/bin

# uv, where it is there, leaves what pip leaves, sooner: the same versions, pip itself, everything compiled.
ifneq ($(UV),)
CREATE = $(UV) venv --quiet --allow-existing --seed --python "$(or $(PYTHON),3.12)" $(VENV)
OFFERED = echo torch | UV_CONSTRAINT=$(CONSTRAINTS) $(UV) pip compile --quiet --no-deps --python $(BIN)/python -
INSTALL = UV_CONSTRAINT=$(CONSTRAINTS) UV_BUILD_CONSTRAINT=$(CONSTRAINTS) $(UV) pip install --quiet \
	--compile-bytecode --index-strategy unsafe-best-match --python $(BIN)/python
else
CREATE = $(PYTHON) -m venv $(VENV)
OFFERED = $(BIN)/pip index versions torch
INSTALL = PIP_CONSTRAINT=$(CONSTRAINTS) $(BIN)/pip install --quiet --disable-pip-version-check
endif

.PHONY: demo test test-fast test-newest test-gpu test-slow lint docs install browser clean

demo: install
	$(BIN)/slt demo

# A process per core, with one thread each. Tests of one file share what they set up, so a file stays together.
test: export OMP_NUM_THREADS = 1
test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The heart of each package within two minutes, for whoever changes a line. The longest are named, lest they creep in.
test-fast: export OMP_NUM_THREADS = 1
test-fast: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not slow and not long" --durations 5

# In an environment of its own: what a new version of a library will break.
test-newest:
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

# On a GPU: what runs on the device, with an interpreter that has a build of torch for it (docs/gpu.md).
PYTHON_GPU ?= $(BIN)/python
test-gpu:
	$(PYTHON_GPU) -m pytest tests/train tests/eval/translation tests/extract/encoder tests/fla_slt \
		tests/extract/jobs/test_extract_job.py tests/extract/jobs/test_extract_worker.py \
		tests/extract/jobs/test_views.py tests/extract/packs/test_jpeg_frames.py tests/test_benchmarks.py

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Read from the docstrings without importing them. Not a part of `install`: no test needs mkdocs.
docs: export NO_MKDOCS_2_WARNING = 1
docs: install
	$(INSTALL) -e '.[docs]'
	$(BIN)/mkdocs build --strict

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	@$(if $(PYTHON),$(PYTHON) $(SUITS),test "$(UV)") || { echo "Needed: Python 3.11, 3.12 or 3.13; found:" \
		"$(or $(PYTHON),none). Install one (Debian, Ubuntu: apt install python3-venv), name one with" \
		"make PYTHON=/its/path, or install uv, which fetches one." >&2; exit 1; }
	$(CREATE)
	# No other index where pip or uv is set up to find a CPU build already, in a mirror or a folder of wheels.
	index="$(TORCH_INDEX)"; $(OFFERED) 2> /dev/null | grep -q '+cpu' && index=; \
	$(INSTALL) $${index:+--extra-index-url $$index} -e '.[dev]'
	touch $@

# The report is tested in Chromium; without it and its driver those tests are skipped, and say so. Debian, as root.
browser:
	command -v chromium > /dev/null && command -v chromedriver > /dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium chromium-driver; }

clean:
	rm -rf $(VENV) .venv-newest site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
