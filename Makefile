# Every target sets up its own virtual environment in .venv; PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check test slow compiled bench docs pictures model dist clean

demo: $(VENV)/installed  ## heatmaps of the sample images with the embedded model
	$(BIN)/gradviz demo

check: $(VENV)/checking  ## style, form and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: $(VENV)/testing compiled  ## the test suite, some minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/testing compiled  ## the long campaigns: big networks, random and mutated models; one by one, as some fill the memory
	$(BIN)/python -m pytest -m slow -o faulthandler_timeout=0

# Where PYTHONDONTWRITEBYTECODE is set, each command that a test starts would compile all modules anew.
compiled: $(VENV)/installed
	$(BIN)/python -m compileall -q gradviz_cli tests

bench: $(VENV)/installed  ## speed against other tools, hours long; BENCH="job --images 64" for a part (run.py --help)
	$(BIN)/python tests/bench/run.py $(BENCH)

docs: $(VENV)/installed  ## write the man page and the completion files anew, from the commands
	$(BIN)/python docs/make.py words

pictures: $(VENV)/installed  ## draw docs/images anew; the gallery's needs chromium
	$(BIN)/python docs/make.py pictures

model: $(VENV)/installed  ## retrain the embedded model and redraw the sample images
	$(BIN)/python -m gradviz_cli.demo.training.train
	$(BIN)/python -m gradviz_cli.demo.training.samples gradviz_cli/demo/images sample_images

dist: $(VENV)/installed  ## wheel and sdist in dist/
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info heatmaps

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/checking: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[check]'
	touch $@

$(VENV)/testing: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
