"""Which graph inputs are state, and which outputs carry it on.

Order: pairs the caller gives; inputs that feed a recurrent node's initial state with the output made from its final
state; compatible shapes with matching names. What stays ambiguous is an error that lists the candidates, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateinfer.errors import StateMismatch, shown
from gateinfer.graph.ir import RECURRENT, UNKNOWN_DTYPE, Dim, Graph, Node, Port

H0, C0, Y_H, Y_C = 5, 6, 1, 2
"""Positions of initial states among the inputs, of results among the outputs of a recurrent node."""

MOVES = frozenset(
    "Identity Reshape Squeeze Unsqueeze Flatten Slice Split Concat Transpose Gather Cast Expand Dropout".split()
)
"""Operators that move state about without changing its values."""

End = tuple[int, str]
"""(number of the recurrent node, "h" or "c")."""


@dataclass(frozen=True, slots=True)
class State:
    """A graph input that holds state and the graph output that replaces it after each step.

    A lifted state is not in the file: `Model.stream` adds its ports to a recurrent node that starts from a constant.
    """

    name: str
    input: str
    output: str
    shape: tuple[Dim, ...] | None
    lifted: bool = False


class _Flow:
    """Producers of all values, every If flattened in. Sibling branches may reuse a name: both count."""

    def __init__(self, graph: Graph) -> None:
        self.sources: dict[str, list[str]] = {}
        self.final: dict[str, set[End]] = {}
        self.initial: list[tuple[End, str]] = []
        self.recurrent: list[Node] = []
        self._cells: set[int] = set()
        """Numbers of recognised cells."""
        self.open: list[tuple[int, Node]] = []
        """Recognised cells that do not tell the previous h from the input."""
        self._add(graph)

    def _add(self, graph: Graph) -> None:
        for node in graph.nodes:
            branches = [value for value in node.attrs.values() if isinstance(value, Graph)]
            for branch in branches:
                self._add(branch)
            if node.op == "If":
                for i, name in enumerate(node.outputs):
                    self._link(name, [b.outputs[i].name for b in branches if i < len(b.outputs)])
            elif node.op in RECURRENT:
                self._add_recurrent(node)
            elif node.op in MOVES:
                moved = node.inputs if node.op == "Concat" else node.inputs[:1]
                for name in node.outputs:
                    self._link(name, [source for source in moved if source])

    def _link(self, name: str, sources: list[str]) -> None:
        self.sources.setdefault(name, []).extend(sources)

    def _add_recurrent(self, node: Node) -> None:
        number = self._continued(node)
        if number is None:
            number = len(self.recurrent)
            self.recurrent.append(node)
        if node.origin is not None:
            self._cells.add(number)
        ends = {Y_H: {(number, "h")}, Y_C: {(number, "c")}}
        for index, name in enumerate(node.outputs):
            if name and index in ends:
                self.final.setdefault(name, set()).update(ends[index])
        is_open = node.origin is not None and node.origin.is_open
        if is_open:
            self.open.append((number, node))
        for index, kind in ((H0, "h"), (C0, "c")):
            if node.input(index) and not (is_open and index == H0):
                self.initial.append(((number, kind), node.input(index)))

    def _continued(self, node: Node) -> int | None:
        """The number of the cell that a recognised one is the next step of; its results are no longer final then."""
        before = self.ends_of_output(node.input(H0)) if node.origin is not None else set()
        if len(before) != 1 or not {number for number, _ in before} <= self._cells:
            return None
        self.final = {name: ends - before for name, ends in self.final.items()}
        ((number, _),) = before
        if node.input(C0):
            self.final = {name: ends - {(number, "c")} for name, ends in self.final.items()}
        return number

    def upstream(self, name: str) -> Iterator[str]:
        """`name` and everything it is moved from."""
        seen, stack = set(), [name]
        while stack:
            current = stack.pop()
            if current not in seen:
                seen.add(current)
                yield current
                stack.extend(self.sources.get(current, ()))

    def ends_of_output(self, name: str) -> set[End]:
        return set().union(*(self.final.get(source, set()) for source in self.upstream(name)))

    def ends_of_inputs(self, names: set[str]) -> dict[str, set[End]]:
        found: dict[str, set[End]] = {}
        for end, name in self.initial:
            for source in names.intersection(self.upstream(name)):
                found.setdefault(source, set()).add(end)
        return found


def detect_states(graph: Graph, given: Mapping[str, str] | None = None) -> tuple[State, ...]:
    """State pairs of `graph`.

    Parameters
    ----------
    graph : Graph
    given : mapping of input name to output name, optional
        Exactly these pairs; nothing is detected then.

    Raises
    ------
    StateMismatch
        A given pair does not exist or does not fit, or an input has several equally good outputs.
    """
    inputs = {port.name: port for port in graph.inputs}
    outputs = {port.name: port for port in graph.outputs}
    if given is not None:
        pairs = {i: _given_output(inputs, outputs, i, o) for i, o in given.items()}
    else:
        flow = _Flow(graph)
        pairs = _pair_by_flow(flow, inputs, outputs)
        pairs |= _without_frame(_pair_by_name(inputs, outputs, pairs), len(inputs) - len(pairs))
        _refuse_open(flow, inputs, pairs)
    if len(set(pairs.values())) != len(pairs):
        raise StateMismatch(f"one output cannot carry two states: {pairs}; pass states={{input: output}}")
    return tuple(State(i, i, pairs[i], inputs[i].shape) for i in inputs if i in pairs)


def stateful_nodes(graph: Graph, names: Collection[str]) -> tuple[list[Node], list[Node]]:
    """All recurrent nodes, those inside branches too, and those whose initial state comes from the inputs `names`."""
    flow = _Flow(graph)
    fed = {number for ends in flow.ends_of_inputs(set(names)).values() for number, _ in ends}
    return flow.recurrent, [flow.recurrent[number] for number in sorted(fed)]


def _given_output(inputs: dict[str, Port], outputs: dict[str, Port], source: str, target: str) -> str:
    if source not in inputs or not isinstance(target, str) or target not in outputs:
        raise StateMismatch(
            f"states={{{source!r}: {shown(target)}}}: inputs are {', '.join(inputs)}; outputs are {', '.join(outputs)}"
        )
    if not _compatible(inputs[source], outputs[target]):
        raise StateMismatch(
            f"state input {source!r} is {inputs[source].dtype} {inputs[source].shape}, "
            f"output {target!r} is {outputs[target].dtype} {outputs[target].shape}"
        )
    return target


def _compatible(source: Port, target: Port) -> bool:
    """Same dtype and rank, and no two known extents that differ. An output shape of () means nobody wrote it down."""
    if target.dtype not in (source.dtype, UNKNOWN_DTYPE):
        return False
    if source.shape is None or not target.shape:
        return True
    if len(source.shape) != len(target.shape):
        return False
    pairs = zip(source.shape, target.shape, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _pair_by_flow(flow: _Flow, inputs: dict[str, Port], outputs: dict[str, Port]) -> dict[str, str]:
    output_ends = {name: flow.ends_of_output(name) for name in outputs}
    pairs = {}
    for name, ends in flow.ends_of_inputs(set(inputs)).items():
        fitting = [o for o, reached in output_ends.items() if reached & ends and _compatible(inputs[name], outputs[o])]
        exact = [o for o in fitting if output_ends[o] == ends]
        best = _narrow(name, exact or fitting, outputs, inputs[name])
        if best:
            pairs[name] = best
    return pairs


def _refuse_open(flow: _Flow, inputs: dict[str, Port], pairs: dict[str, str]) -> None:
    """Raises StateMismatch for a cell with some state carried on and an h that nothing tells from its input."""
    carried = {end for name, ends in flow.ends_of_inputs(set(pairs)).items() for end in ends}
    for number, node in flow.open:
        sources = {name for i in (0, H0) for name in flow.upstream(node.input(i))}
        candidates = [name for name in inputs if name in sources]
        if (number, "c") in carried and len(candidates) > 1 and not pairs.keys() & set(candidates):
            listed = ", ".join(candidates)
            raise StateMismatch(f"the previous h of {node.label()} may be any of {listed}; pass states={{...}}")


def _narrow(name: str, candidates: list[str], outputs: dict[str, Port], port: Port) -> str | None:
    """The one candidate, or the one with the matching name, number included, or the one with the very same shape."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    named = [o for o in candidates if names_match(name, o)]
    numbered = [o for o in named if _numbers(o) == _numbers(name)]
    same = [o for o in candidates if outputs[o].shape == port.shape]
    for choice in (named, numbered, same):
        if len(choice) == 1:
            return choice[0]
    listed = ", ".join(candidates)
    raise StateMismatch(f"state input {name!r} may continue in any of {listed}; pass states={{{name!r}: ...}}")


def _pair_by_name(inputs: dict[str, Port], outputs: dict[str, Port], found: dict[str, str]) -> dict[str, str]:
    """Pairs of what is not `found` yet whose names match and whose shapes do not contradict."""
    pairs: dict[str, str] = {}
    for name, port in inputs.items():
        if name in found or port.dtype.kind != "f":
            continue
        free = [o for o in outputs if o not in found.values() and o not in pairs.values()]
        fitting = [o for o in free if names_match(name, o) and _compatible(port, outputs[o])]
        best = _narrow(name, fitting, outputs, port)
        if best:
            pairs[name] = best
    return pairs


def _without_frame(pairs: dict[str, str], left: int) -> dict[str, str]:
    """`pairs` by name, less the input that must be the frame: the only pair, when all inputs `left` are paired."""
    if len(pairs) < left:
        return pairs
    if len(pairs) > 1:
        raise StateMismatch(f"by their names all inputs are state, and none is the frame: {pairs}; pass states=")
    return {}


FILLER = frozenset("in out input output prev previous next new old cur current init initial final n 0 1 t".split())
"""Words that tell the two ends of a state apart rather than name it."""


def names_match(source: str, target: str) -> bool:
    """True for state/stateN, h/hn, x/x_out, in_cache/out_cache, h_vad/hn_vad and the like, not for equal names."""
    if source == target:
        return False
    a, b = _words(source), _words(target)
    if not a or not b:
        return False
    return _core(a) == _core(b) != [] or [w + "n" for w in a[:1]] + a[1:] == b or [*a[:-1], a[-1] + "n"] == b


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def _numbers(name: str) -> list[str]:
    return [w for w in _words(name) if w.isdigit()]


def _core(words: list[str]) -> list[str]:
    return [w for w in words if w not in FILLER]


def refuse_unstreamable(graph: Graph) -> None:
    """Raises StateMismatch when whoever built the graph knows that frames cannot equal one run."""
    if graph.unstreamable:
        raise StateMismatch(f"{graph.unstreamable}; use run() on whole sequences")


def check_forward(graph: Graph, states: Sequence[State]) -> None:
    """Raises StateMismatch when a node with state from outside runs backward, so that frames cannot equal one run."""
    refuse_unstreamable(graph)
    _, fed = stateful_nodes(graph, {state.input for state in states})
    for node in fed:
        direction = node.attrs.get("direction", "forward")
        direction = direction.decode() if isinstance(direction, bytes) else direction
        if direction != "forward":
            raise StateMismatch(f"{node.label()} runs {direction} in time, which cannot be streamed; use run()")
