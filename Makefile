PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow coverage matrix check manifests clean

# Train on the bundled photographs and print the table. Run it again: what is there is reused.
demo: $(READY)
	$(BIN)/cyclesr demo --config configs/demo.yaml --run-dir runs/demo

# Everything that a change must pass: formatting, lint, types, the default tests. Three at a time also on two cores:
# many wait for processes that they started.
test: check
	$(BIN)/python -m pytest -q -n 3 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# End-to-end runs of minutes; those that start Ray or measure time or memory run one after another.
ALONE := tests/search tests/workflows tests/models/test_strip_memory.py
test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile $(ALONE:%=--ignore=%)
	$(BIN)/python -m pytest -q -m slow $(ALONE)

# How much of each room of the package the default tests execute.
coverage: $(READY)
	$(BIN)/python .ci/coverage_by_room.py -n 2 --dist worksteal

# The default tests with each Python and torch that is promised and can be had: hours. TESTS=tests/nets: minutes.
matrix:
	$(PYTHON) .ci/matrix.py $(TESTS)

# torch first: DeepSpeed's build looks for it, and the pin keeps pip from trying newer builds.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel -c constraints.txt
	grep '^torch==' constraints.txt | xargs $(BIN)/python -m pip install --quiet -c constraints.txt numpy
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	touch $(READY)

# The rendered parts of k8s/, docs/monitoring/ and docs/schema/.
manifests: $(READY)
	$(BIN)/python -m cyclesr_dist.kubernetes.kustomize
	$(BIN)/cyclesr monitoring --out docs/monitoring
	for kind in train tune table; do $(BIN)/cyclesr config schema --kind $$kind --out docs/schema/$$kind.json; done

clean:
	rm -rf $(VENV) build *.egg-info runs
