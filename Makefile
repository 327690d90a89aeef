# `make` alone prints the targets. Linux, macOS or WSL; Python 3.11 or newer, git and make.
PROFILE ?= quick
NAMES ?=
LAB ?=
WORKERS ?=

# What a reader adds (Untitled, 11_retain_share-Copy1) is none of them.
NOTEBOOKS := $(sort $(foreach name,$(basename $(notdir $(wildcard notebooks/[0-9][0-9]_*.ipynb))),$(if $(findstring -,$(name)),,$(name))))
PROFILES := quick mine $(sort $(basename $(notdir $(wildcard notebooks/profiles/*.yaml))))
RUNS := $(or $(UNSIR_RESULTS),runs)
ifneq ($(filter-out $(PROFILES),$(or $(PROFILE),none)),)
$(error there is no profile $(PROFILE): choose one of $(PROFILES))
endif
ifneq ($(filter-out $(NOTEBOOKS),$(NAMES)),)
$(error NAMES has $(filter-out $(NOTEBOOKS),$(NAMES)), which is no notebook: choose among $(NOTEBOOKS))
endif
ifneq ($(filter $(abspath results) $(abspath results)/%,$(abspath $(RUNS))),)
$(error UNSIR_RESULTS names results/, where what is published lies: name another folder, or unset it)
endif
ifneq ($(words $(RUNS)),1)
$(error UNSIR_RESULTS is "$(RUNS)": make cannot write to a folder with a space in its name, choose another)
endif

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
SITE_STAMP := $(ENV)/.unsir-site-installed
ifneq ($(UV),)
INSTALL = "$(UV)" pip install --quiet --compile-bytecode --python "$(PYTHON)"
HEALTHY = "$(PYTHON)" -c "" 2>/dev/null
else
INSTALL = "$(PYTHON)" -m pip install --quiet --disable-pip-version-check
HEALTHY = "$(PYTHON)" -m pip --version >/dev/null 2>&1
endif

DONE := $(RUNS)/$(PROFILE)/.done
DATA := $(wildcard unsir_utils/data/*.yaml)
CODE := $(wildcard unsir_utils/*.py unsir_utils/*/*.py) $(DATA) $(wildcard notebooks/profiles/$(PROFILE).yaml) requirements.lock
# What else the numbers depend on: another value makes every notebook run again.
SETTINGS := precision $(UNSIR_PRECISION) device $(UNSIR_DEVICE) models $(UNSIR_MODELS) data $(UNSIR_DATA) \
	isa $(ONEDNN_MAX_CPU_ISA) $(ATEN_CPU_CAPABILITY)
export UNSIR_WORKERS ?= $(WORKERS)
RUN = "$(PYTHON)" -m unsir_utils.workshop.run --profile $(PROFILE)
# -jN of the command line, or a notebook a card, or, without a GPU, a core (unsir_utils/workshop/cards.py).
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$$("$(PYTHON)" -m unsir_utils.workshop.cards))
# The longest first, so that no core waits for it at the end.
LONG := 16_does_the_noise_matter 18_what_is_left 01_cifar10 15_how_little 03_faces 14_released_code 06_efficiency 19_todays_methods 07_sequential \
	21_fisher_forgetting 08_gradcam 02_cifar100 12_noise_penalty 13_repair_steps 11_retain_share 00_start_here 17_benchmark 20_your_own_model
NOW_ALL := $(addprefix $(DONE)/,$(foreach name,$(LONG),$(filter $(name),$(NOTEBOOKS))) $(filter-out $(LONG),$(NOTEBOOKS)))

.DEFAULT_GOAL := help
.PHONY: help env reproduce models bench check publish test lint unit browser check-notebooks lab readme site lock clean $(NOTEBOOKS)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'
	@printf "%-16s %s\n" "NAME" "one notebook: $(NOTEBOOKS)"
	@echo "WORKERS=n (processes for the cases of a notebook)"
	@echo "PROFILE=quick (no network, minutes), laptop (real CIFAR, hours to days), paper (a GPU), smoke (the tests)"

# The lock leaves out a package that is only in the way (pyproject.toml), and pip would bring it in again but for --no-deps.
env:  ## create the environment and install what is missing
	@$(HEALTHY) || { $(if $(OWN),$(CREATE_VENV),echo "the active environment $(ENV) has no working bin/python with pip: deactivate or repair it"; exit 1); }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, not " + sys.version.split()[0])'
	@if [ "$$(cat "$(STAMP)" 2>/dev/null)" != "$(CURDIR)" ] || [ pyproject.toml -nt "$(STAMP)" ] || [ requirements.lock -nt "$(STAMP)" ]; then \
		echo "installing into $(ENV) (about 6 GB on Linux, where torch brings CUDA; 2 GB elsewhere)"; \
		$(if $(OWN),$(INSTALL) --no-deps -r requirements.lock &&) $(INSTALL) $(if $(OWN),--no-deps) -e '.[test]' && "$(PYTHON)" -m unsir_utils.workshop.strip --install \
			&& "$(PYTHON)" -m ipykernel install --sys-prefix --name unsir --display-name UNSIR >/dev/null && echo "$(CURDIR)" > "$(STAMP)"; \
	fi

define CREATE_VENV
if "$(PYTHON)" -m ensurepip >/dev/null 2>&1; then exit 0; fi; \
if [ -e "$(ENV)" ]; then echo "$(ENV) is half made: it is made anew"; rm -rf "$(ENV)"; fi; \
for python in python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "creating $(ENV) with $$python"; \
		$(if $(UV),"$(UV)" venv --quiet --python "$$(command -v $$python)" "$(ENV)",$$python -m venv "$(ENV)"); exit $$?; \
	fi; \
done; echo "Python 3.11 or newer was not found: install it first"; exit 1
endef

reproduce: env  ## every notebook, table and figure of PROFILE (default quick), compared with what is published
	@"$(PYTHON)" -m unsir_utils.workshop.run --profile $(PROFILE) --check $(NOTEBOOKS:%=notebooks/%.ipynb)
	@$(MAKE) --no-print-directory $(JOBS) $(filter-out %/99_report,$(NOW_ALL))
	@$(MAKE) --no-print-directory $(filter %/99_report,$(NOW_ALL))
	@"$(PYTHON)" -m unsir_utils.report.summary --profile $(PROFILE) --compare $(NOTEBOOKS)

$(NOTEBOOKS): %: $(DONE)/%
	@"$(PYTHON)" -m unsir_utils.report.summary --profile $(PROFILE) $@

# The report gathers what there is.
$(DONE)/99_report: $(filter-out %/99_report,$(wildcard $(DONE)/*))

$(DONE)/.settings: FORCE
	@mkdir -p $(@D) && { echo "$(SETTINGS)" | cmp -s - $@ || echo "$(SETTINGS)" > $@; }

FORCE:

# A notebook that fails leaves no stamp and costs the others nothing: the summary names it, and is what fails.
$(DONE)/%: notebooks/%.ipynb $(CODE) $(DONE)/.settings | env
	@mkdir -p $(@D) && rm -f $@
	@if $(RUN) $<; then touch $@; fi

check: env  ## compare the last run of PROFILE with what is published; NAMES: of these notebooks only
	@"$(PYTHON)" -m unsir_utils.report.compare --profile $(PROFILE) $(NAMES)

publish: env  ## for maintainers: the last run of PROFILE becomes what is published, of NAMES or of all notebooks
	@"$(PYTHON)" -m unsir_utils.report.publish --profile $(PROFILE) $(NAMES)

models: env  ## the trained networks of PROFILE as files for others: runs/models/PROFILE/
	@"$(PYTHON)" -m unsir_utils.workshop.checkpoints --profile $(PROFILE)

bench: env  ## the benchmark, alone on the machine: runs/bench/
	@UNSIR_THREADS=$${UNSIR_THREADS:-2} "$(PYTHON)" -m unsir_utils.workshop.run --profile bench notebooks/17_benchmark.ipynb

test: env  ## lint, nbval, unit tests, every notebook in the smoke profile
	@$(MAKE) --no-print-directory -j2 check-notebooks lint browser
	@$(MAKE) --no-print-directory unit

lint: env  ## ruff over modules, tests and notebooks, mypy over the module
	@"$(PYTHON)" -m ruff check .
	@"$(PYTHON)" -m ruff format --check unsir_utils tests docs
	@"$(PYTHON)" -m mypy

# Not beside a worker a core: a page would have to wait too long.
BROWSER := tests/test_in_the_browser.py tests/test_built_site.py

browser: env  ## JupyterLab and the site in Chromium, where there is one
	@{ $(INSTALL_SITE); } || echo "Sphinx could not be installed: the tests of the site are skipped"
	@"$(PYTHON)" -m pytest $(BROWSER)

unit: env  ## unit tests and the notebooks in the smoke profile, a worker a core
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest tests $(BROWSER:%=--ignore %) -n $$(UNSIR_THREADS= UNSIR_DEVICE=cpu "$(PYTHON)" -m unsir_utils.workshop.cards) --dist worksteal

check-notebooks: env  ## nbval: do the tagged outputs of the published copy come out again?
	@UNSIR_RESULTS=$$(mktemp -d) OMP_NUM_THREADS=$${UNSIR_THREADS:-1} "$(PYTHON)" -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-sanitize-with tests/nbval.cfg results/quick/00_start_here.ipynb

lab: env  ## JupyterLab, as root, too; LAB="--ip 0.0.0.0 --no-browser" in a container
	@"$(PYTHON)" -m jupyterlab --ServerApp.contents_manager_class=unsir_utils.workshop.lab.Contents $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB)

readme: env  ## the generated parts of README.md, from results/
	@"$(PYTHON)" -m unsir_utils.report.readme

site:  ## what is published as a static site, without torch and without running anything: runs/site/html
	@$(HEALTHY) || { $(if $(OWN),$(CREATE_VENV),echo "the active environment $(ENV) has no working bin/python with pip: deactivate or repair it"; exit 1); }
	@$(INSTALL_SITE)
	@"$(PYTHON)" docs/build.py "$(RUNS)/site"

define INSTALL_SITE
if [ ! -e "$(SITE_STAMP)" ] || [ requirements-site.lock -nt "$(SITE_STAMP)" ]; then \
	echo "installing Sphinx and its theme into $(ENV)" && $(INSTALL) -r requirements-site.lock && touch "$(SITE_STAMP)"; \
fi
endef

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url

lock:  ## requirements.lock and requirements-site.lock, exact versions for every platform, from pyproject.toml (needs uv)
	$(COMPILE) --extra test --output-file requirements.lock pyproject.toml
	$(COMPILE) --group site --constraint requirements.lock --output-file requirements-site.lock

clean:  ## forget what was run here; trained models and finished cases stay until runs/checkpoints is deleted
	rm -rf $(foreach profile,$(PROFILES),$(RUNS)/$(profile))
