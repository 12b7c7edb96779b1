"""A plan with islands: native programs and onnxruntime sessions in turn, behind the interface of a single program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gateinfer._core import Runner
from gateinfer.graph.ir import Graph, Port
from gateinfer.graph.partition import partition
from gateinfer.islands import Island
from gateinfer.lower import Lowered, lower
from gateinfer.lower.target import Target

Slot = tuple[int, np.dtype, tuple[int, ...]]


@dataclass(slots=True)
class StagedProgram:
    """What a Program says of itself, summed over the native stages."""

    isa: str
    op_names: list[str]
    work_bytes: int
    macs: int
    external_bytes: dict[int, int]


@dataclass(slots=True)
class Staged:
    """Like `Lowered`: inputs and outputs by name, each with a number that `StagedRunner.bind` takes."""

    stages: list[Lowered | Island]
    graphs: list[Graph]
    """What each stage runs."""
    inputs: dict[str, Slot]
    outputs: dict[str, Slot]
    passed: dict[str, Slot]
    """Values that go from one stage to another and are neither input nor output."""
    states: tuple[tuple[str, str], ...]
    program: StagedProgram = field(init=False)

    def __post_init__(self) -> None:
        native = [stage.program for stage in self.stages if isinstance(stage, Lowered)]
        islands = [f"onnxruntime[{_spell(s.ops)}]" for s in self.stages if isinstance(s, Island)]
        slots = {**self.inputs, **self.outputs, **self.passed}.values()
        self.program = StagedProgram(
            isa=native[0].isa,
            op_names=[name for program in native for name in program.op_names] + islands,
            work_bytes=sum(program.work_bytes for program in native),
            macs=sum(program.macs for program in native),
            external_bytes={n: int(np.prod(shape)) * dtype.itemsize for n, dtype, shape in slots},
        )

    def new_runner(self) -> StagedRunner:
        return StagedRunner(self)


def lower_in_stages(
    graph: Graph,
    foreign: Iterable[str],
    target: Target,
    cache: dict[Hashable, object],
    states: Sequence[tuple[str, str]],
) -> Staged:
    """Lowers the native stages of `graph` and makes an island of each gap; `foreign` names nodes by first output."""
    cut = partition(graph, set(foreign))
    stages = [Island(stage.graph) if stage.foreign else lower(stage.graph, target, cache) for stage in cut]
    ends = {port.name for port in (*graph.inputs, *graph.outputs)}
    between = {port.name: port for stage in cut for port in stage.graph.outputs if port.name not in ends}
    count = len(graph.inputs)
    return Staged(
        stages,
        [stage.graph for stage in cut],
        _slots(graph.inputs, 0),
        _slots(graph.outputs, count),
        _slots(between.values(), count + len(graph.outputs)),
        tuple(states),
    )


def _slots(ports: Iterable[Port], first: int) -> dict[str, Slot]:
    return {port.name: (first + i, np.dtype(port.dtype), port.type.extents) for i, port in enumerate(ports)}


def _spell(ops: list[str]) -> str:
    return " ".join(op if n == 1 else f"{op} x{n}" for op, n in Counter(ops).items())


class StagedRunner:
    """Runs the stages in turn on arrays by name. Same calls as `Runner`."""

    def __init__(self, staged: Staged) -> None:
        self.program = staged.program
        self._staged = staged
        self._names = {slot[0]: name for slots in (staged.inputs, staged.outputs) for name, slot in slots.items()}
        self._arrays = {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in staged.passed.items()}
        """What islands read and write."""
        self._bound: dict[int, np.ndarray] = {}
        """What was bound, by number: an output that is an input has two arrays."""
        self._carried = [(staged.inputs[source][0], staged.outputs[result][0]) for source, result in staged.states]
        self.runners = [s.new_runner() if isinstance(s, Lowered) else None for s in staged.stages]
        """One per stage; None for islands."""
        self.calls = [self._call(*pair) for pair in zip(staged.stages, self.runners, strict=True)]
        """What runs each stage once."""
        for name, array in self._arrays.items():
            self._bind_stages(name, array)

    def _call(self, stage: Lowered | Island, runner: Runner | None) -> Callable[[], None]:
        if isinstance(stage, Island):
            return partial(stage.run, self._arrays)
        return runner.step  # type: ignore[union-attr]  # native stages have one

    def _bind_stages(self, name: str, array: np.ndarray, *, reads: bool = True, makes: bool = True) -> None:
        """Binds an array where native stages read and make the value."""
        for stage, runner in zip(self._staged.stages, self.runners, strict=True):
            if runner is None or isinstance(stage, Island):
                continue
            for slots, wanted in ((stage.inputs, reads), (stage.outputs, makes)):
                if wanted and name in slots:
                    runner.bind(slots[name][0], array)

    def bind(self, tensor: int, array: np.ndarray) -> None:
        """Binds an array to the input or output with that number."""
        name, inputs = self._names[tensor], self._staged.inputs
        is_input = name in inputs and inputs[name][0] == tensor
        self._arrays[name] = self._bound[tensor] = array
        # Of an output that is an input, the first native stage makes a copy (see `partition`) that no other one reads.
        self._bind_stages(name, array, reads=is_input or name not in inputs, makes=not is_input)

    def step(self) -> None:
        """Runs all stages once and carries state."""
        for call in self.calls:
            call()
        for source, result in self._carried:
            self._bound[source][...] = self._bound[result]

    def run(self, tensors: tuple[int, ...], arrays: list[np.ndarray]) -> None:
        """Steps once on these arrays, one per tensor, and keeps none."""
        for tensor, array in zip(tensors, arrays, strict=True):
            self.bind(tensor, array)
        self.step()
        for name in self._names.values():
            self._arrays.pop(name, None)
        self._bound.clear()
