# Two commands matter: `make demo` does the main job, `make test` runs the suite. Both work on a bare Debian machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SCAN ?=
INCLUDE ?=
EXCLUDE ?=
SARCOMAS := ../shared/data/sarcoma_train
TRAINING_DATA ?= $(SARCOMAS)
OTHER_DATA = $(filter-out $(SARCOMAS),$(TRAINING_DATA))
# One for each GPU; two where there is none.
PROCESSES ?= $(or $(filter-out 0,$(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU ')),2)

.PHONY: demo view test bench lint audit format train-compact system-packages

demo: $(READY)
	$(BIN)/sam3dsegment demo --out demo $(if $(SCAN),--scan "$(SCAN)") \
		$(foreach point,$(INCLUDE),--include $(point)) $(foreach point,$(EXCLUDE),--exclude $(point))

view: $(READY) system-packages
	$(BIN)/sam3dsegment view $(if $(SCAN),"$(SCAN)")

test: $(READY) system-packages
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m Testing.benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pip check
	$(BIN)/python -m Testing.pins

# Asks PyPI what is known against the pinned versions. Strict: a package that could not be looked up is no success.
audit: $(READY)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The configuration's version, credit and licence are those of a training on the sarcomas.
train-compact: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc-per-node $(PROCESSES) -m training train \
		--config training/configs/compact.yaml --set "source=$(TRAINING_DATA)" $(if $(OTHER_DATA),version=1 credit= licence=)

# torch first: every other package is then content with it, whichever build the machine's package index offers.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

system-packages:
	@Testing/system_packages.sh
