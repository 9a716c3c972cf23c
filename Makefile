# make lab     set up .venv and open the course in JupyterLab       make test    everything that must hold
# make site    the course as pages to read, in site/                 make bench   how fast it is, beside others
# make read    docs/read anew: the notebooks as Markdown with still pictures (needs Chromium; minutes, unattended)
# make record  every recording anew (needs an NVIDIA GPU)            make dist    a wheel and a source package in dist/
# make clean   remove all that make made                         make compat  lowest and newest versions, tried
# make live    every notebook live, one after the other (needs an NVIDIA GPU)
# make live-kinds   every notebook against made-up engines of every kind (needs no GPU)
# make fuzz    10,000 damaged files for each reader: EXAMPLES=1000 for a first look, an hour for all
# ARGS goes to the program that runs, for example: make lab ARGS=--no-browser
VENV   := .venv
PYTHON ?=
ARGS   ?=
EXAMPLES ?= 10000
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install -qq --disable-pip-version-check
export PYTHON

.PHONY: lab test fuzz site read record live live-kinds bench compat dist clean
.DEFAULT_GOAL := lab

lab: $(VENV)/.lab
	@$(VENV)/bin/trtlearn lab $(ARGS)

test: $(VENV)/.test
	@$(VENV)/bin/ruff check -q .
	@$(VENV)/bin/ruff format -q --check .
	@$(VENV)/bin/mypy
	@$(PY) -m tools.typecheck_trt
	@$(VENV)/bin/pytest -n 2 --dist loadgroup $(ARGS)

fuzz: $(VENV)/.test
	@TRTLEARN_FUZZ=$(EXAMPLES) nice $(VENV)/bin/pytest -n 2 tests/fuzz $(ARGS)

site: $(VENV)/.test
	@$(PY) -m tools.site.build $(ARGS)

read: $(VENV)/.test
	@$(PY) -m tools.read $(ARGS)

record: $(VENV)/.lab
	@$(PY) -m recording $(ARGS)

live: $(VENV)/.lab
	@$(PIP) nbclient nbformat
	@$(PY) -m recording.live $(ARGS)

live-kinds: $(VENV)/.test
	@LIVE_KINDS=all $(VENV)/bin/pytest tests/course/test_live_notebooks.py $(ARGS)

bench: $(VENV)/.test
	@$(PY) -m tools.bench $(ARGS)

compat: $(VENV)/.lab
	@$(PIP) uv
	@$(PY) -m tools.compat $(ARGS)

dist: $(VENV)/.test
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist .
	@sh tools/check_dist.sh $(PY)
	@ls dist

clean:
	@rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find trtlearn tests recording tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python: tools/venv.sh
	@sh tools/venv.sh $(VENV)
	@touch $@

$(VENV)/.lab: pyproject.toml $(VENV)/.python
	@echo "Installing JupyterLab and the course into $(VENV): once, a minute or two …"
	@$(PIP) -e '.[lab]'
	@sh tools/gpu.sh $(VENV)
	@touch $@

# TensorRT's types (10.13) for mypy, and the 11.x API that builds without a GPU; its wheels are for x86-64 only.
# NVIDIA's own Python bindings of six versions (7 MB), which the tests import over stand-in libraries.
$(VENV)/.test: pyproject.toml $(VENV)/.python
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps tensorrt-stubs==10.13.*
	@$(PIP) --no-deps tensorrt_rtx_cu13_libs tensorrt_rtx_cu13_bindings \
		|| echo "tensorrt_rtx is not to be had here: the tests that need it are skipped"
	@$(PY) -m tools.trt_bindings
	@touch $@
