"""Typed contract of the compiled engine: a thin coat over src_c/gateinfer.h.

It checks, pins, releases the GIL and raises; it does no arithmetic. Views are tuples (tensor, offset, shape, strides)
in elements, or None where an operand may be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

Shape = tuple[int, ...]
View = tuple[int, int, Shape, Shape]
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
"""(kernel, stride, dilation, pad_begin), each (height, width)."""
Link = tuple[View, int]
"""(view of the program being built, external tensor of a loop's body)."""
Carry = tuple[View, int, int, View | None]
"""(initial state, tensor of the body it enters, tensor it comes out of, where the last state goes)."""

MAX_THREADS: Final[int]
WEIGHTS: Final[dict[str, int]]
DTYPES: Final[dict[np.dtype, int]]
UNARY: Final[dict[str, int]]
"""Names of gi_unary in lower case without the prefix: "sigmoid", "tanh", ..., "hard_sigmoid", "exp", "clip", ..."""
BINARY: Final[dict[str, int]]
REDUCTION: Final[dict[str, int]]

class Cell(NamedTuple):
    """gi_cell. kind: "lstm", "gru" or "rnn"; activations: ((name, alpha, beta), ...) with names of UNARY."""

    kind: str
    input_size: int
    hidden_size: int
    activations: tuple[tuple[str, float, float], ...]
    clip: float
    linear_before_reset: bool
    input_forget: bool
    weights: str = "f32"

def isa_names() -> list[str]:
    """Kernel tables in this build, narrowest first."""

def best_isa() -> str:
    """The widest table this CPU runs and GATEINFER_ISA allows."""

def pack_cell(
    cell: Cell, W: np.ndarray, R: np.ndarray, B: np.ndarray | None, P: np.ndarray | None
) -> np.ndarray:
    """Panels of one direction: W [G*H, I], R [G*H, H], B [2*G*H], P [3*H], float32 C-contiguous."""

def projected_size(cell: Cell) -> int:
    """Elements that a row has after `project`: the gates of all blocks of 16 units."""

def project(isa: str, cell: Cell, packed: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bias + W x for the rows x [rows, I], as a layer with `projected` takes them, 64-byte aligned."""

def round_weights(w: np.ndarray, weights: str) -> np.ndarray:
    """The float32 values that weights stored as `weights` have; ModelError when a finite one is beyond their range."""

def pack_dense(w: np.ndarray, bias: np.ndarray | None, weights: str = "f32") -> np.ndarray:
    """Panels of y = x @ w + bias: w [K, N] float32 in any strides, bias [N]."""

def packed_cell_size(cell: Cell) -> int: ...

class Builder:
    """Collects tensors and ops. Errors raise ShapeError, ModelError, MemoryError."""

    isa: str
    op_count: int
    def op_macs(self, index: int) -> int: ...
    def __init__(self, isa: str = "auto") -> None: ...
    def work(self, dtype: int, elements: int) -> int: ...
    def external(self, dtype: int, elements: int) -> int: ...
    def constant(self, array: np.ndarray) -> int:
        """Borrows a C-contiguous array; the program keeps a reference."""
    def carry(self, source: int, target: int) -> None: ...
    def copy(self, out: View, src: View) -> None: ...
    def fill(self, out: View, value: float) -> None: ...
    def cast(self, out: View, src: View) -> None: ...
    def unary(self, fn: int, out: View, src: View, alpha: float = 0.0, beta: float = 0.0) -> None: ...
    def binary(self, fn: int, out: View, lhs: View, rhs: View) -> None: ...
    def where(self, out: View, cond: View, lhs: View, rhs: View) -> None: ...
    def gather(self, out: View, src: View, index: View, axis: int) -> None: ...
    def gather_nd(self, out: View, src: View, index: View, batch: int) -> None: ...
    def gather_elements(self, out: View, src: View, index: View, axis: int) -> None: ...
    def scatter_nd(self, out: View, index: View, updates: View, reduction: int) -> None:
        """Over part of `out`; `reduction`: -1 or one of BINARY."""
    def scatter_elements(self, out: View, index: View, updates: View, axis: int, reduction: int) -> None: ...
    def arg(self, out: View, src: View, least: bool, last: bool) -> None: ...
    def top(self, values: View, indices: View, src: View, least: bool) -> None: ...
    def cumsum(self, out: View, src: View, exclusive: bool) -> None: ...
    def reverse(self, out: View, src: View, lens: View) -> None: ...
    def reduce(self, fn: int, out: View, src: View) -> None: ...
    def softmax(self, logarithm: bool, out: View, src: View) -> None: ...
    def layer_norm(self, out: View, src: View, scale: View | None, bias: View | None, epsilon: float) -> None: ...
    def pool(self, out: View, src: View, window: Window, maximum: bool, count_pad: bool) -> None: ...
    def dense(self, out: View, src: View, packed: int, weights: str = "f32") -> None: ...
    def matmul(self, out: View, lhs: View, rhs: View) -> None: ...
    def conv(self, out: View, src: View, packed: int, groups: int, window: Window) -> None: ...
    def cell_pack(
        self, cell: Cell, packed: int, W: View, R: View, B: View | None, P: View | None
    ) -> None: ...
    def recurrent(
        self, cell: Cell, reverse: bool, packed: int, x: View, lens: View | None, h0: View | None, c0: View | None,
        y: View | None, hn: View | None, cn: View | None, projected: bool = False,
    ) -> None: ...
    def loop(
        self, body: Program, trips: int, trip_count: View | None, condition: View | None,
        signals: tuple[int, int, int], captures: Sequence[Link], carries: Sequence[Carry],
        scan_inputs: Sequence[Link], scan_outputs: Sequence[Link],
    ) -> None:
        """`gi_build_loop`; `signals`: tensors of the body for iteration, condition in and out, or -1."""
    def finish(self) -> Program: ...

class Program:
    """A finished, immutable program. Safe to share between threads."""

    isa: str
    op_names: list[str]
    op_macs: list[int]
    work_bytes: int
    macs: int
    external_bytes: dict[int, int]
    constant_bytes: dict[int, int]
    """Bytes of weights and other constants by address, those of loop bodies included."""

class Team:
    """Threads, the caller of a step included, that share large layers; they start with the first one that needs them.

    keep_hot: seconds that they spin for more work before they sleep.
    """

    threads: int
    keep_hot: float

    def __init__(self, threads: int, keep_hot: float = 0.0) -> None: ...

class Runner:
    """The mutable half: memory for `rows` rows of one program."""

    heavy: bool
    """Whether steps let other threads run: they are estimated to take more than about 2 us."""
    def __init__(self, program: Program, rows: int = 1, team: Team | None = None) -> None: ...
    def bind(self, tensor: int, array: np.ndarray) -> None:
        """Binds a C-contiguous array to an external tensor and keeps a reference to it."""
    def run(self, tensors: tuple[int, ...], arrays: list[np.ndarray]) -> None:
        """Steps once on these arrays, one per tensor, and keeps none: every external tensor must be among them."""
    def step(self) -> None:
        """Runs the program once and carries state. Raises ShapeError on out-of-range indices or lengths."""
    def refuse_busy(self) -> None:
        """Raises GateInferError while another thread steps."""
    def profile(self) -> np.ndarray:
        """Runs the program once without carrying state: nanoseconds per op [ops] int64."""

class RunCalls:
    """Calls of `run` on a program: arrays by name in, fresh ones by name out.

    inputs, outputs: (tensor, dtype, shape) by name. new_runner: makes a Runner, or what has its `run`.
    """

    def __init__(
        self,
        inputs: dict[str, tuple[int, np.dtype, Shape]],
        outputs: dict[str, tuple[int, np.dtype, Shape]],
        new_runner: Callable[[], Any],
    ) -> None: ...
    def fit(self, feeds: Any) -> bool:
        """Whether `feeds` is a dict of just these names, of C-contiguous native arrays with these types and shapes."""
    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs. ModelError where they do not fit in memory."""

class FrameCalls:
    """What makes a stream callable. A subclass has `_call_any`, asked where frames or `out` are not as the buffers."""

    def _take_plain(
        self, runner: Runner | None, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray], positional: int
    ) -> None:
        """Buffers bound in `runner`, in the order of frames; None: ask `_call_any` always.

        `positional`: how many of `inputs` may come without a name.
        """
    def __call__(self, /, *args: Any, out: Any = None, **frames: Any) -> Any:
        """One frame or chunk through the model.

        Parameters
        ----------
        *args, **frames : array
            Frame inputs in the order of the model's inputs, or by name. Those with a default in the file are optional.
        out : ndarray or dict of str to ndarray, optional
            Where results go; nothing is allocated then.

        Returns
        -------
        The array of the one output that is not state, or a dict by output name where there are several; `out` when
        given. Where all outputs are state, they are the result.
        """
