# `make demo` and `make test` do all of their own set-up, in .venv/.
# GNU make 3.81, which Macs have, is enough.

VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
EXAMPLE := examples/surface_inspection

# The first of these that is Python 3.10 or newer and can make a virtual environment.
# `make PYTHON=/path/to/python3.12 ...` chooses another.
PYTHON := python3.13 python3.12 python3.11 python3.10 python3 python

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint types lit pytest clean

help:
	@echo "make demo    compile the example for a Cortex-M4, run it on the simulator, print a table"
	@echo "make test    run every check and test: lint, types, lit, pytest (each also by itself)"
	@echo "make clean   remove build/ and $(VENV)/"

# The network and its numbers.
demo: $(VENV)/.installed-demo
	@echo "Compiling $(EXAMPLE)/surface_qdq.onnx for cortex-m4 into $(DEMO)/"
	@$(BIN)/tinymlir compile $(EXAMPLE)/surface_qdq.onnx --target cortex-m4 --name surface -o $(DEMO)
	@$(BIN)/python $(EXAMPLE)/evaluate.py $(DEMO)

test: lint types lit pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

lit: $(VENV)/.installed-test
	$(BIN)/lit test/lit

pytest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto

clean:
	rm -rf build $(VENV)

$(VENV)/.installed-demo: $(VENV)/.made
	@echo "Installing tinymlir and its simulator into $(VENV)/ (once; 300 MB to download)"
	@$(PIP_INSTALL) --editable '.[simulation,reference]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made
	@echo "Installing tinymlir and its test tools into $(VENV)/ (once; 340 MB to download)"
	@$(PIP_INSTALL) --editable '.[simulation,reference,rtl,test]'
	@touch $@ $(VENV)/.installed-demo

# Whenever the dependencies change, what is there is brought up to date.
$(VENV)/.made: pyproject.toml
	@if $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	  touch $@; exit; \
	fi; \
	for candidate in $(PYTHON); do \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue; \
	  new=$$candidate; \
	  "$$candidate" -c 'import venv, ensurepip' 2>/dev/null || continue; \
	  usable=$$candidate; \
	  break; \
	done; \
	if [ -n "$$usable" ]; then \
	  echo "Making $(VENV)/ with $$("$$usable" --version)"; \
	  rm -rf $(VENV) && "$$usable" -m venv $(VENV) && touch $@; \
	elif [ -n "$$new" ]; then \
	  echo "make: $$new has no venv module. On Debian or Ubuntu: apt install python3-venv" >&2; \
	  exit 1; \
	else \
	  echo "make: tinymlir needs Python 3.10 or newer, and there is none on the PATH." >&2; \
	  echo "      On Debian or Ubuntu: apt install python3 python3-venv" >&2; \
	  echo "      On a Mac: brew install python, or the installer from python.org" >&2; \
	  exit 1; \
	fi
