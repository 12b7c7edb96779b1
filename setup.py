"""Builds the one extension module; everything else about the package is in pyproject.toml.

`GATEINFER_SANITIZE=1` builds the extension with AddressSanitizer and UBSan (see `make asan`).
"""

import os
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

# Instruction sets are chosen per file with target pragmas, so no flag here names a CPU; contraction and value-changing
# float optimisations stay off because every instruction set must give the same bits.
FLAGS = ["-O3", "-g0", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
QUIET = ["-Wno-unused-but-set-variable"]  # in the file that Cython writes; `make ctest` compiles the core with -Werror
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1"]


def sources(*patterns):
    """Files of the C core, in an order that does not depend on the file system."""
    return sorted(path for pattern in patterns for path in glob(f"src_c/**/{pattern}", recursive=True))


sanitize = SANITIZE if os.environ.get("GATEINFER_SANITIZE") == "1" else []
core = Extension(
    "gateinfer._core",
    sources=["gateinfer/_core.pyx", *sources("*.c")],
    depends=[*sources("*.h", "*.inc"), *glob("gateinfer/*.px[di]"), "setup.py"],
    include_dirs=["src_c", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION")],
    libraries=["m"],
    extra_compile_args=FLAGS + QUIET + sanitize,
    extra_link_args=sanitize[:1],
)
setup(ext_modules=cythonize([core], language_level=3, quiet=True))
