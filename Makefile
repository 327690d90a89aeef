# `make` alone prints the targets. Linux, macOS or WSL; Python 3.11 or newer, git and make.
PROFILE ?= quick
LAUNCH ?=

# An active virtual or conda environment is used (but conda's base, which is no place for a project); otherwise .venv.
ifneq ($(VIRTUAL_ENV),)
ENV := $(VIRTUAL_ENV)
else ifneq ($(filter-out base,$(CONDA_DEFAULT_ENV)),)
ENV := $(CONDA_PREFIX)
else
ENV := .venv
endif
OWN := $(filter $(abspath .venv),$(abspath $(ENV)))
PYTHON := $(ENV)/bin/python
UV := $(shell command -v uv 2>/dev/null)
STAMP := $(ENV)/.unsir-installed
ifneq ($(UV),)
INSTALL = "$(UV)" pip install --quiet --python "$(PYTHON)"
else
INSTALL = "$(PYTHON)" -m pip install --quiet --disable-pip-version-check
endif

CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
NOTEBOOKS := $(sort $(basename $(notdir $(wildcard notebooks/*.ipynb))))
RESULTS := $(or $(UNSIR_RESULTS),results)
DONE := $(RESULTS)/$(PROFILE)/.done
CODE := $(wildcard unsir_utils/*.py) data/paper.yaml data/claims.yaml $(wildcard notebooks/profiles/$(PROFILE).yaml)
RUN = $(LAUNCH) "$(PYTHON)" -m unsir_utils.run --profile $(PROFILE)
# The longest first, so that no core waits for it at the end.
LONG := 02_cifar100 15_how_little 16_does_the_noise_matter 01_cifar10 06_efficiency 14_released_code
NOW_ALL := $(addprefix $(DONE)/,$(filter $(LONG),$(NOTEBOOKS)) $(filter-out $(LONG),$(NOTEBOOKS)))

.DEFAULT_GOAL := help
NAMES ?=
.PHONY: help env reproduce bench check test lint unit check-notebooks lab readme lock clean $(NOTEBOOKS)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'
	@printf "%-16s %s\n" "NAME" "one notebook: $(NOTEBOOKS)"
	@echo "PROFILE=quick (no network, minutes), laptop (real CIFAR, hours), paper (a GPU), smoke (the tests)"

env:  ## create the environment and install what is missing
	@test -x "$(PYTHON)" || { $(if $(OWN),$(CREATE_VENV),echo "the active environment $(ENV) has no bin/python: deactivate or repair it"; exit 1); }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, not " + sys.version.split()[0])'
	@if [ "$$(cat "$(STAMP)" 2>/dev/null)" != "$(CURDIR)" ] || [ pyproject.toml -nt "$(STAMP)" ] || [ requirements.lock -nt "$(STAMP)" ]; then \
		echo "installing into $(ENV) (about 6 GB on Linux, where torch brings CUDA; 2 GB elsewhere)"; \
		$(if $(OWN),$(INSTALL) -r requirements.lock &&) $(INSTALL) -e '.[test]' && echo "$(CURDIR)" > "$(STAMP)"; \
	fi

define CREATE_VENV
for python in python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "creating $(ENV) with $$python"; \
		$(if $(UV),"$(UV)" venv --quiet --python "$$(command -v $$python)" "$(ENV)",$$python -m venv "$(ENV)"); exit $$?; \
	fi; \
done; echo "Python 3.11 or newer was not found: install it first"; exit 1
endef

# A notebook computes on one thread (UNSIR_THREADS), so as many run at once as there are cores, unless -jN says otherwise.
reproduce: env  ## every notebook, table and figure of PROFILE (default quick)
	@$(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(CORES)) $(filter-out %/99_report,$(NOW_ALL))
	@$(MAKE) --no-print-directory $(filter %/99_report,$(NOW_ALL))
	@"$(PYTHON)" -m unsir_utils.summary --profile $(PROFILE) $(NOTEBOOKS)

$(NOTEBOOKS): %: $(DONE)/%
	@"$(PYTHON)" -m unsir_utils.summary --profile $(PROFILE) $@

# The report gathers what there is.
$(DONE)/99_report: $(filter-out %/99_report,$(wildcard $(DONE)/*))

# The stamps are not in git: what a clone brings along was made elsewhere, and is made anew here.
$(DONE)/%: notebooks/%.ipynb $(CODE) | env
	@$(RUN) $<
	@mkdir -p $(@D) && touch $@

# A run of its own beside the committed results, from the trained models that there are.
check: export UNSIR_RESULTS = results/check
check: export UNSIR_MODELS := $(or $(UNSIR_MODELS),$(CURDIR)/results/checkpoints)
check: env  ## run NAMES (default: all) of PROFILE afresh and compare with results/expected.yaml
	@"$(PYTHON)" -m unsir_utils.check --profile $(PROFILE) --models $(NAMES)
	@names=$$("$(PYTHON)" -m unsir_utils.check --profile $(PROFILE) --list $(NAMES)) || exit 1; \
		$(MAKE) --no-print-directory --keep-going $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(CORES)) $$names; \
		"$(PYTHON)" -m unsir_utils.check --profile $(PROFILE) $(NAMES)

bench: env  ## the benchmark, alone on the machine: results/bench/
	@UNSIR_THREADS=$${UNSIR_THREADS:-2} $(LAUNCH) "$(PYTHON)" -m unsir_utils.run --profile bench notebooks/17_benchmark.ipynb

test: lint unit check-notebooks  ## lint, unit tests, every notebook in the smoke profile, nbval

lint: env  ## ruff over modules, tests and notebooks
	@"$(PYTHON)" -m ruff check .
	@"$(PYTHON)" -m ruff format --check unsir_utils tests

unit: env  ## unit tests and the notebooks in the smoke profile
	@"$(PYTHON)" -m pytest tests

check-notebooks: env  ## nbval: do the tagged outputs of the committed copy come out again?
	@UNSIR_RESULTS=$$(mktemp -d) OMP_NUM_THREADS=$${UNSIR_THREADS:-1} "$(PYTHON)" -m pytest --nbval-lax --nbval-cell-timeout=600 --nbval-sanitize-with tests/nbval.cfg results/quick/00_start_here.ipynb

lab: env  ## JupyterLab
	@"$(PYTHON)" -m jupyterlab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

readme: env  ## the generated parts of README.md and results/expected.yaml, from results/
	@"$(PYTHON)" -m unsir_utils.readme
	@"$(PYTHON)" -m unsir_utils.check --write

lock:  ## requirements.lock, exact versions for every platform, from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra test --no-header --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:  ## forget what was made here; trained models stay until results/checkpoints is deleted
	rm -rf results/*/.done results/*/failed results/smoke results/mine results/check
