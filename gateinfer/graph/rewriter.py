"""The walk behind folding: reads a graph in order, computes what is known, writes what remains."""

from __future__ import annotations

import dataclasses
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.checks import MAX_NODES, definitions
from gateinfer.graph.evaluate import can_evaluate, evaluate
from gateinfer.graph.infer import MAX_VALUE_ELEMENTS, has_rule, infer
from gateinfer.graph.infer.creation import shape_slice
from gateinfer.graph.infer.registry import Query
from gateinfer.graph.ir import RECURRENT, Graph, Node, Port, TensorType
from gateinfer.graph.live import all_names, needed, renamed
from gateinfer.graph.loops import LOOPS, fold_loop
from gateinfer.graph.weights import constant_elements

MAX_FOLDED: Final = 2**26
"""Elements of one folded value."""
MAX_FOLDED_TOTAL: Final = 2**28
"""Elements of all values folded in one pass."""
MAX_GROWN: Final = 2**24
"""Elements that folding may add to those it starts from: little in the file must not become much in memory."""
MAX_COPIES: Final = 4
"""How often constants may be transformed when the program is built, rather than by the program, every time."""
MAX_FOLDED_PRODUCT: Final = 2**26
"""Multiply-adds of a constant matrix product that is worth folding; a larger one stays a node."""
MAX_COUNTED: Final = 2**28
"""Steps of arithmetic to find out how often loops turn."""
MAX_FOLDED_INDICES: Final = 2**18
"""Indices of a constant gather or scatter worth folding: the reference operators walk them in Python."""

ForeignTypes = Callable[[Node, list[TensorType | None], list[np.ndarray | None]], list[TensorType]]
"""Types of the outputs of a node that the engine has no rule for."""


Scope = ChainMap[str, str]
"""Name in a graph being read -> name in the graph being written."""

# Nodes that change nothing when the type stays the same.
_RESHAPING: Final = frozenset("Cast Expand Flatten Reshape Squeeze Tile Unsqueeze".split())
_WALKS_INDICES: Final = frozenset("GatherElements GatherND ScatterElements ScatterND".split())


class Rewriter:
    """Reads one graph with its sub-graphs and writes the folded one. Names in the result are unique."""

    def __init__(self, graph: Graph, *, static: bool, foreign: ForeignTypes | None = None) -> None:
        self.opset = graph.opset
        self.static = static
        self._foreign = foreign
        self.empty = False
        """Some input has no elements."""
        self.main: Scope = ChainMap()
        self.values: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}
        self._failures: dict[str, GateInferError] = {}
        """What is wrong with a value: told only when an output needs it."""
        self._defined = set(definitions(graph))
        self._repeats: Counter[str] = Counter()
        self._folded = 0
        self._counted = 0
        self._grown = 0
        self._budget = min(MAX_FOLDED_TOTAL, MAX_GROWN + MAX_COPIES * constant_elements(graph))
        self._visited = 0

    # ---- names ------------------------------------------------------------------------------------------------------

    def define(self, scope: Scope, name: str) -> str:
        """Gives `name` of the graph being read a unique name in the result. The main graph's names stay."""
        unique = name
        while unique in self._defined and scope is not self.main:
            self._repeats[name] += 1
            unique = f"{name}~{self._repeats[name]}"
        self._defined.add(unique)
        scope[name] = unique
        return unique

    def fresh(self, name: str) -> str:
        """A name that nothing else has, made from `name`."""
        return self.define(ChainMap(), name)

    def constant(self, array: np.ndarray) -> str:
        """The name of a new constant."""
        name = self.fresh("constant")
        self.set_constant(name, array)
        return name

    def integers(self, values: Iterable[int]) -> str:
        """The name of a new constant list of int64."""
        return self.constant(np.array(list(values), "i8"))

    def insert(self, op: str, inputs: tuple[str, ...], nodes: list[Node], **attrs: Any) -> str:
        """The result of a node that no file has; `inputs` are names of the result."""
        scope = self.main.new_child()
        name = f"{inputs[0]}~{op.lower()}"
        self._fold_static(Node(op, inputs, (name,), attrs), scope, nodes)
        return scope[name]

    def set_constant(self, name: str, array: np.ndarray) -> None:
        self.values[name] = array
        self.types[name] = TensorType(array.dtype, array.shape)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def read(self, graph: Graph, scope: Scope) -> list[Node]:
        """The folded nodes of `graph`. Afterwards `scope` says where each of its values is."""
        for name, array in graph.constants.items():
            self.set_constant(self.define(scope, name), array)
        nodes: list[Node] = []
        for node in graph.nodes:
            self._visit(node, scope, nodes)
        return nodes

    def _visit(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        self._visited += 1
        if self._visited > MAX_NODES:
            raise ModelError(f"folding visits more than {MAX_NODES} nodes")
        if not any(node.outputs):
            return
        inputs = tuple(scope[n] if n else "" for n in node.inputs)
        failure = next((self._failures[n] for n in inputs if n in self._failures), None)
        try:
            if failure is not None:
                raise failure
            self._fold(dataclasses.replace(node, inputs=inputs), scope, nodes)
        except BudgetExceeded:
            raise
        except GateInferError as error:
            if not self.static:
                raise
            for output in filter(None, node.outputs):
                self.fail(scope, output, error)

    def _fold(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        """`node` reads names of the result already and still writes names of the graph being read."""
        if node.op == "If" and not node.domain:
            self._fold_if(node, scope, nodes)
        elif node.op in LOOPS and not node.domain and self.static:
            fold_loop(self, node, scope, nodes)
        elif _is_identity(node):
            scope[node.outputs[0]] = node.inputs[0]
        elif self.static:
            self._fold_static(node, scope, nodes)
        else:
            self._fold_free(node, scope, nodes)

    def _fold_if(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        condition = self.values.get(node.input(0))
        if condition is not None:
            self._inline(node, condition, scope, nodes)
        elif self.static:
            raise UnsupportedOp(
                f'{node.label()}: its condition "{node.input(0)}" depends on run-time values; '
                "pass the graph input it comes from as a constant keyword"
            )
        else:
            self._emit(node, scope, nodes)

    def _inline(self, node: Node, condition: np.ndarray, scope: Scope, nodes: list[Node]) -> None:
        if condition.size != 1 or condition.dtype != bool:
            raise ShapeError(f"{node.label()}: the condition must be one bool, got {condition.dtype} {condition.shape}")
        branch = node.attrs.get("then_branch" if condition.item() else "else_branch")
        if not isinstance(branch, Graph) or len(branch.outputs) < len(node.outputs):
            raise ModelError(f"{node.label()}: a branch is missing or yields fewer than {len(node.outputs)} values")
        if branch.inputs:
            raise ModelError(f"{node.label()}: a branch of If has no inputs of its own, got {branch.inputs[0].name!r}")
        inner = scope.new_child()
        nodes.extend(self.read(branch, inner))
        for output, port in zip(node.outputs, branch.outputs, strict=False):
            scope[output] = inner[port.name]

    def _fold_free(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        """Without shapes only nodes on constants have types. What fails here may belong to a branch never taken."""
        known = [self.values.get(n) for n in node.inputs]
        if not self._foldable(node, known):
            self._emit(node, scope, nodes)
            return
        try:
            types = infer(node, [self.types.get(n) for n in node.inputs], known, self.opset)
            results = self._evaluate(node, types, known)
        except BudgetExceeded:
            raise
        except GateInferError:
            results = None
        self._emit(node, scope, nodes) if results is None else self._define_all(node, scope, results)

    def _fold_static(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        given = [self.types.get(n) for n in node.inputs]
        known = [self.values.get(n) for n in node.inputs]
        types = self._infer(node, given, known)
        if self._pass(node, types, scope):
            return
        results = self._shape_results(node, given)
        if results is None and self._foldable(node, known):
            results = self._evaluate(node, types, known)
        if results is not None:
            self._define_all(node, scope, results)
            return
        self._emit(node, scope, nodes)
        for output, found in zip(node.outputs, types, strict=True):
            if output:
                self.types[scope[output]] = found

    def _infer(self, node: Node, given: list[TensorType | None], known: list[np.ndarray | None]) -> list[TensorType]:
        """By the engine's own rules, else, for nodes that may run elsewhere, as that place says."""
        try:
            return infer(node, given, known, self.opset, empty=self.empty)
        except UnsupportedOp as refusal:
            if self._foreign is None or node.op in RECURRENT:
                raise
            try:
                return self._foreign(node, given, known)
            except UnsupportedOp as second:
                raise (refusal if has_rule(node) else second) from None

    def _foldable(self, node: Node, known: list[np.ndarray | None]) -> bool:
        """True when all inputs are known and there are operators to compute with, which are imported only then."""
        if any(value is None and name for value, name in zip(known, node.inputs, strict=True)):
            return False
        return has_rule(node) and can_evaluate(node, self.opset)

    def _shape_results(self, node: Node, given: list[TensorType | None]) -> list[np.ndarray] | None:
        """Shape and Size need no value."""
        if node.op == "Shape":
            return [np.array(shape_slice(Query(node, given, (), self.opset)), dtype="i8")]
        if node.op == "Size":
            return [np.array(given[0].size, dtype="i8")]  # type: ignore[union-attr]
        return None

    def _pass(self, node: Node, types: list[TensorType], scope: Scope) -> bool:
        """Replaces a node that changes nothing by its input."""
        same = node.op in _RESHAPING and types[0] == self.types[node.inputs[0]]
        if not same and node.op != "Dropout":
            return False
        scope[node.outputs[0]] = node.inputs[0]
        if node.output(1):
            self._spend(node, types[1].size, types[1].size)
            kept = self.opset >= 12  # all true; before that the mask of inference is unspecified, and 0 in onnxruntime
            self.set_constant(self.define(scope, node.output(1)), np.full(types[1].extents, kept, types[1].dtype))
        return True

    def _evaluate(self, node: Node, types: list[TensorType], known: list[np.ndarray | None]) -> list[np.ndarray] | None:
        """The values of a node on constants, or None when it is too costly and better left to the program."""
        elements = sum(found.size for found in types)
        over = elements > MAX_FOLDED or self._folded + elements > self._budget
        given = sum(v.size for v in dict(zip(node.inputs, known, strict=True)).values() if v is not None)
        # Moving large weights about is no attack: the program will do it. Only what grows out of little is refused.
        if _too_costly(node, types, known) or (over and elements <= given):
            return None
        self._spend(node, elements, elements - given)
        results = evaluate(node, known, self.opset)
        return [_as_inferred(node, result, found) for result, found in zip(results, types, strict=False)]

    def _spend(self, node: Node, elements: int, grown: int) -> None:
        self._folded += elements
        self._grown += max(grown, 0)
        if elements > MAX_FOLDED or self._folded > self._budget or self._grown > MAX_GROWN:
            raise BudgetExceeded(
                f"{node.label()}: folding it takes {elements} elements, which exceeds the budget of {MAX_FOLDED} "
                f"for one value, of {self._budget} for the model, or of {MAX_GROWN} more than the file holds"
            )

    def spend_turns(self, steps: int) -> None:
        self._counted += steps
        if self._counted > MAX_COUNTED:
            raise BudgetExceeded(f"finding out how often loops turn takes more than {MAX_COUNTED} steps")

    def check_size(self, node: Node, found: TensorType) -> None:
        if found.size > MAX_VALUE_ELEMENTS:
            raise ModelError(f"{node.label()}: a result of shape {list(found.extents)} has too many elements")

    def _define_all(self, node: Node, scope: Scope, results: list[np.ndarray]) -> None:
        for output, array in zip(node.outputs, results, strict=True):
            if output:
                self.set_constant(self.define(scope, output), array)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _emit(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        attrs = {key: self._fold_attribute(value, scope) for key, value in node.attrs.items()}
        outputs = tuple(self.define(scope, o) if o else "" for o in node.outputs)
        nodes.append(dataclasses.replace(node, outputs=outputs, attrs=attrs))

    def _fold_attribute(self, value: Any, scope: Scope) -> Any:
        if isinstance(value, Graph):
            return self._fold_subgraph(value, scope)
        if isinstance(value, list) and any(isinstance(v, Graph) for v in value):
            return [self._fold_attribute(v, scope) for v in value]
        return value

    def _fold_subgraph(self, graph: Graph, outer: Scope) -> Graph:
        scope = outer.new_child()
        inputs = [Port(self.define(scope, p.name), p.type) for p in graph.inputs]
        nodes = self.read(graph, scope)
        outputs = [Port(scope[p.name], p.type) for p in graph.outputs]
        return dataclasses.replace(
            graph, inputs=inputs, outputs=outputs, nodes=needed(nodes, {p.name for p in outputs}), constants={}
        )

    def finish(self, graph: Graph) -> Graph:
        """The result for the main graph; raises what is wrong with values that its outputs need."""
        nodes = self.read(graph, self.main)
        outputs = {p.name: self.main[p.name] for p in graph.outputs}
        self.raise_failures(outputs.values())
        nodes = self._name_outputs(needed(nodes, set(outputs.values())), outputs)
        used = set(all_names(nodes)) | {p.name for p in graph.inputs} | set(outputs)
        return dataclasses.replace(
            graph,
            outputs=list(graph.outputs),
            nodes=nodes,
            constants={n: a for n, a in self.values.items() if n in used},
            types={n: t for n, t in self.types.items() if n in used},
        )

    def fail(self, scope: Scope, name: str, error: GateInferError) -> None:
        """Defines a value that nobody can have: whoever needs it gets `error`."""
        self._failures[self.define(scope, name)] = error

    def raise_failures(self, sources: Iterable[str]) -> None:
        """Raises what is wrong with these values of the result, if anything is."""
        causes = list(dict.fromkeys(self._failures[n] for n in sources if n in self._failures))
        if len(causes) > 1 and all(isinstance(c, UnsupportedOp) for c in causes):
            raise UnsupportedOp("; ".join(map(str, causes)))
        if causes:
            raise causes[0]

    def _name_outputs(self, nodes: list[Node], outputs: dict[str, str]) -> list[Node]:
        """Makes every graph output appear under its own name: by renaming its producer, else by an Identity."""
        produced = {o for node in nodes for o in node.outputs}
        new_names: dict[str, str] = {}
        identities = []
        for name, source in outputs.items():
            if source in self.types:
                self.types[name] = self.types[source]
            if source in self.values:
                self.values[name] = self.values[source]
            elif source in produced and source not in new_names and source not in outputs:
                new_names[source] = name
            elif source != name:
                identities.append(Node("Identity", (source,), (name,)))
        return [renamed(node, new_names) for node in nodes + identities] if new_names else nodes + identities


class BudgetExceeded(ModelError):
    """Folding went past its limits: never a reason to try on."""


def _is_identity(node: Node) -> bool:
    return node.op == "Identity" and not node.domain and all(node.inputs) and len(node.inputs) == len(node.outputs) == 1


def _too_costly(node: Node, types: list[TensorType], known: list[np.ndarray | None]) -> bool:
    if node.op in ("MatMul", "Gemm"):
        inner = max(known[0].shape, default=1)  # type: ignore[union-attr]
        return inner * types[0].size > MAX_FOLDED_PRODUCT
    return node.op in _WALKS_INDICES and known[1].size > MAX_FOLDED_INDICES  # type: ignore[union-attr]


def _as_inferred(node: Node, array: np.ndarray, found: TensorType) -> np.ndarray:
    """The reference operators may return another dtype or strides than the rule says, never another shape."""
    if array.shape != found.shape:
        raise ModelError(f"{node.label()}: evaluated to shape {list(array.shape)}, expected {found.shape}")
    return np.asarray(array, dtype=found.dtype, order="C")
