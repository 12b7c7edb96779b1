# `make demo` and `make test` are all the set-up a fresh machine needs: Python >= 3.11, a C compiler, a package index.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
JOBS := $(shell nproc 2>/dev/null || echo 2)

# PYTHON=... overrides the search. Each candidate is asked, because a shim on the path may have nothing behind it.
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done

SOURCES := $(wildcard gateinfer/_core.pyx gateinfer/*.px[di]) $(shell find src_c -name '*.[ch]') setup.py
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || { p=$$($(FIND_PYTHON)); \
	  test -n "$$p" || { echo "no Python >= 3.11 with the modules venv and ensurepip found; set PYTHON=/path/to/python3" >&2; exit 1; }; \
	  echo "creating $(VENV) with $$p"; "$$p" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }
	@echo "installing gateinfer and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# pip has just built the extension when the environment is new, so only sources newer than it count.
$(BUILT): $(SOURCES) | $(INSTALLED)
	@so=$$(ls gateinfer/_core.*.so 2>/dev/null | head -1); \
	if [ -z "$$so" ] || [ -n "$$(find $(SOURCES) -newer "$$so")" ]; then \
	  echo "building gateinfer._core"; $(BIN)/python setup.py --quiet build_ext --inplace --force; fi
	@touch $@

build: $(BUILT) ## the environment in .venv and the compiled extension

demo: $(BUILT) ## Silero VAD on a speech clip: segments, difference from onnxruntime, time per frame
	@$(BIN)/python -m gateinfer demo

lint: $(INSTALLED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

# Everything CI runs. What can run side by side does; the whole Python suite comes last, so that its summary is the last
# thing to read.
test: $(BUILT) ## everything CI runs: lint, C tests, sanitizers, every instruction set, the whole suite
	@$(MAKE) lint
	@$(MAKE) -j$(JOBS) --output-sync=target ctest asan isa
	$(BIN)/pytest

# Tests whose outcome hangs on compiled code; the rest (files, passes, text, tools) need not be repeated per instruction
# set or sanitizer.
WITHOUT_ENGINE := architecture bench cli examples graph_passes hostile_files hostile_paths npz_safetensors onnx_loader \
  packaging readme reference shape_rules states
ENGINE_TESTS = $(filter-out $(WITHOUT_ENGINE:%=tests/test_%.py),$(wildcard tests/test_*.py))

isa: isa-scalar isa-avx2 ## the engine's tests with the instruction set held down
isa-scalar isa-avx2: isa-%: $(BUILT)
	GATEINFER_ISA=$* $(BIN)/pytest -m "not slow" -p no:cacheprovider $(ENGINE_TESTS)

# ---- the C core on its own ----
C_FLAGS := -std=gnu11 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -pthread -Isrc_c -Itests/c
C_SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
C_CORE := $(shell find src_c -name '*.c')
C_HEADERS := $(shell find src_c tests/c -name '*.h')
C_TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_*.c))

build/c/%.o: src_c/%.c $(C_HEADERS)
	@mkdir -p $(@D) && $(CC) $(C_FLAGS) -c $< -o $@
build/c-sanitized/%.o: src_c/%.c $(C_HEADERS)
	@mkdir -p $(@D) && $(CC) $(C_FLAGS) $(C_SANITIZE) -c $< -o $@
build/c/%.run: tests/c/%.c $(C_CORE:src_c/%.c=build/c/%.o)
	@$(CC) $(C_FLAGS) $^ -lm -o $@
build/c-sanitized/%.run: tests/c/%.c $(C_CORE:src_c/%.c=build/c-sanitized/%.o)
	@$(CC) $(C_FLAGS) $(C_SANITIZE) $^ -lm -o $@

ctest: $(C_TESTS:%=build/c/%.run) $(C_TESTS:%=build/c-sanitized/%.run) ## C tests of the core, then again with ASan and UBSan
	@set -e; for t in $^; do echo "$$t"; ASAN_OPTIONS=detect_leaks=1 ./$$t; done

# ---- the extension under sanitizers ----
# Preloading libstdc++ too lets ASan see exceptions that onnxruntime throws and catches.
ASAN_ENV = LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=build/asan/lib PYTHONMALLOC=malloc

build/asan/.built: $(SOURCES) $(shell find gateinfer -name '*.py') | $(INSTALLED)
	@echo "building gateinfer._core with sanitizers"
	@GATEINFER_SANITIZE=1 $(BIN)/python setup.py --quiet build --build-lib build/asan/lib --build-temp build/asan/tmp
	@touch $@

asan: build/asan/.built ## the engine's tests on an extension built with ASan and UBSan
	$(ASAN_ENV) $(BIN)/python -P -c "import gateinfer._core as c; assert 'build/asan' in c.__file__, c.__file__"
	$(ASAN_ENV) $(BIN)/pytest -m "not slow" -p no:cacheprovider $(ENGINE_TESTS)

# ---- benchmarks: bench/README.md ----
BENCH_FLAGS ?=
bench: $(BUILT) ## gateinfer next to other engines, every size and model; BENCH_FLAGS=--quick for a short run
	$(BIN)/python -m bench $(BENCH_FLAGS)

bench-peers: $(INSTALLED) ## install the engines to compare with, pinned
	$(BIN)/python -m pip install --quiet -r bench/requirements-peers.txt

bench-guard: $(BUILT) ## pytest-benchmark on the step, sequence and row cases, to compare before and after a change
	@mkdir -p build
	$(BIN)/pytest bench --benchmark-only --benchmark-group-by=group --benchmark-columns=median,iqr,min,rounds \
	  --benchmark-sort=name --benchmark-json=build/bench.json

roofline: build/bench/roofline ## limits of this machine and the cells of the bare C core next to them, as JSON
	@./$<
BENCH_HEADERS := $(wildcard bench/c/*.h)
build/bench/roofline build/bench/against: build/bench/%: bench/c/%.c $(C_CORE) $(C_HEADERS) $(BENCH_HEADERS)
	@mkdir -p $(@D) && $(CC) -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -pthread -Isrc_c $< $(C_CORE) -lm -ldl -o $@

# RTNeural's layers, one shared object per backend and set of flags: AVX as its build enables it, all this machine has, fast math.
RTNEURAL ?=
XSIMD ?= $(RTNEURAL)/modules/xsimd/include
RTNEURAL_PEERS := $(foreach backend,eigen xsimd stl,$(foreach flags,avx native fast,build/bench/$(backend)-$(flags).so))
RTNEURAL_CXX = $(CXX) -std=c++17 -O3 -DNDEBUG -w -shared -fPIC -fvisibility=hidden -DEIGEN_STACK_ALLOCATION_LIMIT=0 \
	-Ibench/c -I$(RTNEURAL) -isystem $(RTNEURAL)/modules/Eigen -isystem $(XSIMD)
eigen := -DRTNEURAL_USE_EIGEN=1
xsimd := -DRTNEURAL_USE_XSIMD=1
avx := -mavx2 -mfma -DRTNEURAL_DEFAULT_ALIGNMENT=32
native = -march=native -DRTNEURAL_DEFAULT_ALIGNMENT=$(if $(findstring xsimd,$@),64,32)
fast := $(avx) -ffast-math

rtneural: build/bench/against ## small layers next to RTNEURAL=path/to/a checkout of RTNeural, which is compiled for each size
	@test -f "$(RTNEURAL)/RTNeural/RTNeural.h" -a -d "$(RTNEURAL)/modules/Eigen" -a -d "$(XSIMD)/xsimd" || { echo \
	  "RTNEURAL=path/to/RTNeural with its submodules wanted: git clone --recursive https://github.com/jatinchowdhury18/RTNeural" \
	  "(XSIMD=path/to/xsimd/include if xsimd 10 is elsewhere)" >&2; exit 1; }
	@$(MAKE) $(RTNEURAL_PEERS)
	@./$< $(AGAINST_FLAGS) $(RTNEURAL_PEERS)
build/bench/%.so: bench/c/rtneural.cpp bench/c/peer.h
	@$(RTNEURAL_CXX) $($(word 1,$(subst -, ,$*))) $($(word 2,$(subst -, ,$*))) $< -o $@

clean: ## remove everything that was built, except .venv
	rm -rf build dist *.egg-info gateinfer/_core.c gateinfer/_core.*.so .cache $(BUILT)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

.PHONY: help build demo lint test isa isa-scalar isa-avx2 ctest asan bench bench-peers bench-guard roofline rtneural clean
.SECONDARY:
