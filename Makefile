VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# One thread a process: the suite runs WORKERS processes, and small networks gain nothing.
export OMP_NUM_THREADS ?= 1

.PHONY: install demo test lint slurm

install:
	@scripts/install.sh $(VENV)

demo: install
	@$(BIN)/bench data write digits
	@$(BIN)/bench submit --table digits --cluster local --wait
	@$(BIN)/bench collect --table digits
	@$(BIN)/bench figures --table digits
	@$(BIN)/bench report --table digits --figures curves --figures forest --open

test: install
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# A real Slurm on this machine (see slurm/README.md).
slurm:
	@slurm/devcluster/up.sh
