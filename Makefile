# `make demo` and `make test` do the whole set-up: .venv, and in it the versions of constraints.txt.
# Nothing else is needed but Python 3.11 or newer; the second time they start at once.
#
#   make demo    search a small collection in twelve languages
#   make test    every check and every test
#   make check   the checks without the tests
#   make test-slow   200 random histories of an index, and builds of 460,000 sentences killed 20 times
#   make clean   remove what make has made, .venv included
#
# Variables, as in `make test PYTHON=python3.12`:
PYTHON ?= python3
# gpu in place of cpu for FAISS on a GPU.
EXTRAS ?= cpu,lucene,serve,ui,train,dedup,milvus,ray,dev
# Where the parallel text is, in a folder `parallel`.
DATA ?= ../shared/data
# Options for pip when it installs torch: on Linux without a GPU,
# `--extra-index-url https://download.pytorch.org/whl/cpu` saves 3 GB of CUDA libraries.
TORCH_OPTIONS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := indexes/built/demo
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow check browser clean

demo: $(DEMO)/manifest.json
	@echo '# In German: which artist made the woodcuts for the Luther Bible?'
	@$(BIN)/mretrieve search $(DEMO) 'Welcher Künstler lieferte die Holzschnitte für Luthers Bibel?' --top-k 3
	@echo && echo '# In Thai, written without spaces: when was the last outbreak of the plague?'
	@$(BIN)/mretrieve search $(DEMO) 'กาฬโรคระบาดครั้งสุดท้ายเมื่อใด' --top-k 3
	@echo && echo '# In English, for what stands in Hindi only:'
	@$(BIN)/mretrieve search $(DEMO) 'Why did Harvard end its early admission program?' --top-k 3

test: check browser
	@$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && mkdir "$$folder/updates" && \
	  echo 'Histories of changes, of which some are killed:' && \
	  $(BIN)/python tests/index/update_program.py "$$folder/updates" 200 20 && \
	  echo 'Builds that are killed:' && \
	  $(BIN)/python tests/index/fault_program.py "$$folder/builds" --data $(DATA) --kills 20

# The search page's tests want a Chromium; without one they are skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends chromium fonts-noto-core >/dev/null; } || \
	  echo 'No Chromium: the tests of the search page will be skipped.' >&2

check: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

clean:
	rm -rf .venv $(DEMO) $(DEMO).building build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(DEMO)/manifest.json: | $(INSTALLED)
	@$(BIN)/mretrieve index sample $(DEMO) --recipe indexes/sample.yaml

# torch goes first, with options of its own that must not apply to the rest.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "mretrieve needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo 'Installing into .venv, which takes some minutes the first time ...' >&2
	@$(PIP) $(TORCH_OPTIONS) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) -e '.[$(EXTRAS)]'
	@touch $@
