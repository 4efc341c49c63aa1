.PHONY: help begin ready night records records-all merge pins slow-list house fix check test test-slow test-torch test-quantization test-web test-space replay bench site golden sweep traced coverage mutants fuzz changes release hooks
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := .venv-torch/bin
unexport PYTHONDONTWRITEBYTECODE  # else each process compiles 1,700 files again: half a minute

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/weighbridge: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

$(TORCH)/weighbridge: pyproject.toml
	$(PYTHON) -m venv .venv-torch
	$(TORCH)/pip install -q -e '.[test-torch]'
	@touch $@

begin: ## note what a piece of work is compared with: before its first commit
	git rev-parse HEAD >.ci/base

ready: ## the gate, as CI runs it, on this tree and in environments that are kept
	KEEP=1 .ci/run

night: ## everything of which the gate runs a share: some two hours
	.ci/night

records: $(BIN)/weighbridge ## write every generated file, but those that take minutes
	$(BIN)/python -m tools.records

records-all: $(BIN)/weighbridge ## write those that take minutes, too: half an hour
	$(BIN)/python -m tools.records --all

BRANCH ?=
merge: ## BRANCH=name: merge it; of generated files ours is kept and written again
	git config merge.records.name "keep ours: make records writes it again"
	git config merge.records.driver true
	git merge --no-edit $(BRANCH)
	$(MAKE) records

pins: ## pin the newest releases of all that CI installs (.ci/venv.txt, .ci/venv-web.txt): then make night
	rm -rf .venv .venv-web
	$(PYTHON) -m venv .venv && .venv/bin/pip install -q -e '.[dev,test-torch]'
	$(PYTHON) -m venv .venv-web && .venv-web/bin/pip install -q -e '.[test-web,test-agents,test-scan,docs]'
	for venv in venv venv-web; do \
		sed -i '/^[^#]/d' .ci/$$venv.txt; \
		.$$venv/bin/pip freeze --exclude-editable --exclude torch >>.ci/$$venv.txt; \
	done

slow-list: $(BIN)/weighbridge ## write tests/slow.txt: fast tests that take more than 0.05 s, on a quiet machine
	$(BIN)/python -m tools.slow_tests

fix: $(BIN)/weighbridge ## format, lint what can be mended, regenerate the docs and the index of model types
	$(BIN)/ruff format src tests tools benchmarks
	$(BIN)/ruff check --fix src tests tools benchmarks
	$(BIN)/python -m tools.model_types
	$(BIN)/python tools/docs.py
	$(BIN)/python -m tools.screens

check: $(BIN)/weighbridge ## the same, and fail on a difference; types, spelling, who imports whom
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/pytest -n 0 -m house $$(grep -rlF mark.house tests --include 'test_*.py')
	$(BIN)/python -m tools.screens --check

test: $(BIN)/weighbridge ## the torch-free tests
	$(BIN)/pytest -n 2

test-slow: $(BIN)/weighbridge ## sweeps over records and corpora, whole
	WEIGHBRIDGE_NIGHT=1 $(BIN)/pytest -n 2 -m slow

test-torch: $(TORCH)/weighbridge ## the tests whose oracles are torch and transformers, whole
	WEIGHBRIDGE_NIGHT=1 $(TORCH)/pytest -n 2 -m "slow or not slow" tests/torch

test-quantization: $(TORCH)/weighbridge ## those whose oracles change what transformers imports: last and alone
	$(TORCH)/pip install -q -e '.[test-torch,test-quantization]'
	$(TORCH)/pytest -n 2 tests/torch/test_quantization_torch.py tests/torch/test_fake_gpu_bitsandbytes.py \
		tests/torch/test_training_packed.py tests/torch/test_training_float8.py

test-web: $(BIN)/weighbridge ## the page in Chromium, whole, the types of its modules (npm), and scans
	$(BIN)/pip install -q -e '.[test-web,test-scan]'
	WEIGHBRIDGE_NIGHT=1 $(BIN)/pytest -m "slow or not slow" tests/browser tests/web tests/scan

test-space: $(BIN)/weighbridge ## the Gradio edition, in an environment of its own: as a process, in Chromium, its API, its tools
	$(PYTHON) -m venv .venv-space && .venv-space/bin/pip install -q -e '.[test-space]'
	.venv-space/bin/pytest tests/space

coverage: $(BIN)/weighbridge ## how much of formats, arch and components the torch-free tests run, branches too
	$(BIN)/pip install -q -e '.[coverage]'
	$(BIN)/pytest -n 2 --cov --cov-report term

replay: $(BIN)/weighbridge ## ask the whole catalogue again: did any answer change?
	$(BIN)/python -m tools.replay

bench: $(BIN)/weighbridge ## speed and memory beside the other tools (benchmarks/README.md)
	$(BIN)/python -m benchmarks

SINCE ?= HEAD~1
house: $(BIN)/weighbridge ## what a person reads: names, sizes, the lines that came and went since SINCE; and the budgets, lowered
	$(BIN)/python -m tools.house --write
	$(BIN)/python -m tools.house
	$(BIN)/python -m tools.budgets --since $(SINCE)
	$(BIN)/python -m tools.budgets --lower

site: $(BIN)/weighbridge ## build the docs as a site in build/site, with the calculator
	$(BIN)/python -c 'import mkdocs, material' 2>/dev/null || $(BIN)/pip install -q -e '.[docs]'
	$(BIN)/python -m tools.site

golden: $(BIN)/weighbridge ## measure the golden suite on the GPU that is here
	$(BIN)/pip install -q -e '.[golden]'
	$(BIN)/weighbridge measure --history -o tests/golden golden

traced: $(BIN)/weighbridge ## re-run published training programs on the fake GPU; half an hour
	$(BIN)/pip install -q -e '.[test-torch]' torchvision timm peft liger-kernel
	$(BIN)/python tools/pin_accuracy.py --trace

ROOM ?= components
mutants: $(BIN)/weighbridge ## change a line of ROOM at a time: which does no test hold?
	$(BIN)/python -m tools.mutants $(ROOM)

MINUTES ?= 5
SEED ?= $(shell date +%Y%m%d)
fuzz: $(BIN)/weighbridge ## for so many MINUTES what strangers may make, by the SEED of the day
	$(BIN)/pip install -q -e '.[test-scan]'
	$(BIN)/python -m tests.fuzz --kept
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

changes: $(BIN)/weighbridge ## what changes/ comes to, as the next release will say it
	$(BIN)/towncrier build --draft --version next

release: $(BIN)/weighbridge ## VERSION=0.3.0: changelog, version, commit and tag; a pushed tag is published
	PATH=$(BIN):$$PATH $(BIN)/python -m tools.release $(VERSION)

hooks: $(BIN)/weighbridge ## check format, types and spelling before each commit (pre-commit)
	$(BIN)/pip install -q pre-commit==4.7.0
	$(BIN)/pre-commit install

sweep: $(BIN)/weighbridge ## trace a step of every family of timm and transformers (docs/sweep.md)
	$(BIN)/pip install -q -e '.[test-torch]' timm torchvision scipy
	$(BIN)/python -m tools.sweep
