# Two commands: `make demo` watches gestures being recognised, `make test` runs all checks.
# Each works by itself on a fresh clone; both share the virtual environment .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported, then: a twentieth of what torch and its company bring.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# A camera number, a video file, a folder of images, synthetic:KIND, pipe:COMMAND or a URL.
SOURCE ?= synthetic:gestures
# The version the tests are known to pass with. Where the CPU build of torch is wanted, set TORCH
# to what https://pytorch.org/get-started says, or install it into .venv first.
TORCH ?= torch==2.13.0

.PHONY: help demo check wheels test lint format clean

help:
	@echo 'make demo                  the bundled model on a rendered person; writes out/demo.mp4'
	@echo 'make demo SOURCE=0         the same on camera 0'
	@echo 'make demo SOURCE=clip.mp4  the same on a file'
	@echo 'make check                 ruff, mypy and the tests that take no torch, emulator or compiler'
	@echo 'make wheels                dist/: for x86-64 and aarch64, with the bundled model compiled'
	@echo 'make test                  ruff, mypy and all tests'

demo: $(VENV)/.demo
	@mkdir -p out
	@$(BIN)/shiftedge demo --source '$(SOURCE)' --film out/demo.mp4

# Tests that generate code run in processes of their own: torch and TVM each bring an LLVM. Those on
# emulated ARM boards may be among them: make test GENERATING='tests/export/codegen tests/arm'.
GENERATING ?= tests/export/codegen
# make test HOST=avx2: as on a machine with no more than that; see tests/hosts.py.
HOST ?=
# A process for each core, each with half of the files at first; who is done takes from the others.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(HOST:%=--host %)

check: lint
	$(PYTEST) --ignore=tests/export/codegen --ignore=tests/arm --quick

test: lint
	$(PYTEST) --ignore=tests/export/codegen
	$(PYTEST) $(GENERATING)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A wheel for each machine, and none that asks for ONNX Runtime.
wheels: $(VENV)/.test
	@mkdir -p build
	for target in x86-64 aarch64; do \
		$(BIN)/shiftedge compile runtime/assets/*.onnx --target $$target --output build/$$target && \
		SHIFTEDGE_COMPILED=$$PWD/build/$$target $(BIN)/python -m build --wheel || exit 1; \
	done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'shiftedge needs Python 3.10 or newer: make PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'On Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
	$(PIP) --upgrade pip

# The stamps keep a second call from asking the package index again.
$(VENV)/.demo: $(BIN)/python setup.cfg pyproject.toml
	$(PIP) --editable '.[onnx,camera]'
	@touch $@

$(VENV)/.test: $(BIN)/python setup.cfg pyproject.toml
	$(PIP) '$(TORCH)'
	$(PIP) --editable '.[onnx,camera,web,mqtt,metrics,export,compile,plots,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) out build dist *.egg-info src/*.egg-info
