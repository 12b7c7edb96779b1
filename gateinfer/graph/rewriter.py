"""The walk behind folding: reads a graph in order, computes what is known, writes what remains."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, ModelError, ShapeError, UnsupportedOp
from gateinfer.graph import sequences
from gateinfer.graph.budget import PRODUCTS, Budget, BudgetExceeded, steps
from gateinfer.graph.checks import Captures, definitions
from gateinfer.graph.evaluate import can_evaluate, evaluate
from gateinfer.graph.infer import MAX_VALUE_ELEMENTS, has_rule, infer
from gateinfer.graph.infer.creation import shape_slice
from gateinfer.graph.infer.registry import Query
from gateinfer.graph.ir import RECURRENT, Graph, Node, Port, TensorType
from gateinfer.graph.known import Arguments, KnownValues
from gateinfer.graph.live import all_names, needed, renamed
from gateinfer.graph.loops import LOOPS, fold_loop
from gateinfer.graph.sequences.pieces import Pieces

MIN_PUT_OFF: Final = 2**16
"""Multiply-adds of a product whose value is not computed before somebody asks for it."""

ForeignTypes = Callable[[list[Node], Mapping[str, TensorType], Mapping[str, np.ndarray]], list[TensorType]]
"""Types of the outputs of the last of some nodes, which the engine has no rule for. The others make its sequences."""

Scope = ChainMap[str, str]
"""Name in a graph being read -> name in the graph being written."""

# Nodes that change nothing when the type stays the same.
_RESHAPING: Final = frozenset("Cast Expand Flatten Reshape Squeeze Tile Unsqueeze".split())


class Rewriter:
    """Reads one graph with its sub-graphs and writes the folded one. Names in the result are unique."""

    def __init__(self, graph: Graph, *, static: bool, foreign: ForeignTypes | None = None) -> None:
        self.opset = graph.opset
        self.static = static
        self.foreign = foreign
        self.empty = False
        """Some input has no elements."""
        self.main: Scope = ChainMap()
        self.values = KnownValues()
        self.types: dict[str, TensorType] = {}
        self.sequences: dict[str, Pieces] = {}
        """What lists are made of that no node makes."""
        self.opaque: dict[str, Node] = {}
        """Lists that only onnxruntime can make, by the nodes that do."""
        self._failures: dict[str, GateInferError] = {}
        """What is wrong with a value: told only when an output needs it."""
        self._defined = set(definitions(graph))
        self._repeats: Counter[str] = Counter()
        self._captures: Captures = {}
        self.budget = Budget(graph)

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

    def insert(self, op: str, inputs: tuple[str, ...], nodes: list[Node], *, called: str = "", **attrs: Any) -> str:
        """The result of a node that no file has; `inputs` are names of the result."""
        self.budget.spend_visits(1)
        scope = self.main.new_child()
        name = f"{inputs[0]}~{op.lower()}"
        node = Node(op, inputs, (name,), attrs, name=called)
        if op in sequences.SEQUENCE_OPS:
            sequences.keep_sequence(self, node, scope, nodes)
        elif self.static:
            self._fold_static(node, scope, nodes)
        else:
            self._fold_free(node, scope, nodes)
        return scope[name]

    def set_constant(self, name: str, array: np.ndarray) -> None:
        self.values.put(name, array)
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
        self.budget.spend_visits(1)
        if not any(node.outputs):
            return
        inputs = tuple([scope[n] if n else "" for n in node.inputs])
        failure = next((self._failures[n] for n in inputs if n in self._failures), None)
        try:
            if failure is not None:
                raise failure
            self._fold(node if inputs == node.inputs else node.changed(inputs=inputs), scope, nodes)
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
        elif node.op in LOOPS and not node.domain:
            self._fold_loop(node, scope, nodes)
        elif _is_identity(node):
            scope[node.outputs[0]] = node.inputs[0]
        elif node.op in sequences.SEQUENCE_OPS and not node.domain:
            sequences.fold_sequence(self, node, scope, nodes)
        elif self._reads_lists(node):
            sequences.keep_sequence(self, node, scope, nodes)
        elif self.static:
            self._fold_static(node, scope, nodes)
        else:
            self._fold_free(node, scope, nodes)

    def _reads_lists(self, node: Node) -> bool:
        if not self.sequences and not self.opaque:
            return False
        return any(name in self.sequences or name in self.opaque for name in node.inputs)

    def _fold_loop(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        node, grown = sequences.without_grown_lists(self, node)
        if self.static:
            fold_loop(self, node, scope, nodes)
        else:
            self.emit(node, scope, nodes)
        for result, pieces, stack in grown:
            self.sequences[self.define(scope, result)] = (*pieces, stack._replace(source=scope[stack.source]))

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
            self.emit(node, scope, nodes)

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
        if not self._foldable(node):
            self.emit(node, scope, nodes)
            return
        known = [self.values[n] if n else None for n in node.inputs]
        try:
            types = infer(node, [self.types.get(n) for n in node.inputs], known, self.opset)
            results = self._evaluate(node, types, known)
        except BudgetExceeded:
            raise
        except GateInferError:
            results = None
        self.emit(node, scope, nodes) if results is None else self._define_all(node, scope, results)

    def _fold_static(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        given = [self.types.get(n) for n in node.inputs]
        known = Arguments(node.inputs, self.values)
        types = self._infer(node, given, known)
        if self._pass(node, types, scope):
            return
        results = self._shape_results(node, given)
        if results is None and self._foldable(node):
            if self._put_off(node, types, known, scope):
                return
            results = self._evaluate(node, types, list(known))
        if results is not None:
            self._define_all(node, scope, results)
            return
        self.emit(node, scope, nodes)
        for output, found in zip(node.outputs, types, strict=True):
            if output:
                self.types[scope[output]] = found

    def _infer(
        self, node: Node, given: list[TensorType | None], known: Sequence[np.ndarray | None]
    ) -> list[TensorType]:
        """By the engine's own rules, else, for nodes that may run elsewhere, as that place says."""
        try:
            return infer(node, given, known, self.opset, empty=self.empty)
        except UnsupportedOp as refusal:
            if self.foreign is None or node.op in RECURRENT:
                raise
            try:
                return self.foreign([node], self.types, self.values)
            except UnsupportedOp as second:
                raise (refusal if has_rule(node) else second) from None

    def _foldable(self, node: Node) -> bool:
        """True when all inputs are known and there are operators to compute with, which are imported only then."""
        for name in node.inputs:
            if name and name not in self.values:
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
            self.budget.spend(node, types[1].size, types[1].size)
            kept = self.opset >= 12  # all true; before that the mask of inference is unspecified, and 0 in onnxruntime
            self.set_constant(self.define(scope, node.output(1)), np.full(types[1].extents, kept, types[1].dtype))
        return True

    def _put_off(self, node: Node, types: list[TensorType], known: Sequence[np.ndarray | None], scope: Scope) -> bool:
        """Leaves a product that is worth folding until somebody asks for it: often only its shape is used."""
        if node.op not in PRODUCTS or steps(node, types, known) < MIN_PUT_OFF:
            return False
        if not self.budget.take(node, types, known):
            return False
        (found,), values = types, list(known)
        name = self.define(scope, node.outputs[0])
        self.types[name] = found
        self.values.put_later(name, lambda: _as_inferred(node, evaluate(node, types, values, self.opset)[0], found))
        return True

    def _evaluate(self, node: Node, types: list[TensorType], known: list[np.ndarray | None]) -> list[np.ndarray] | None:
        """The values of a node on constants, or None when it is too costly and better left to the program."""
        if not self.budget.take(node, types, known):
            return None
        results = evaluate(node, types, known, self.opset)
        return [_as_inferred(node, result, found) for result, found in zip(results, types, strict=False)]

    def check_size(self, node: Node, found: TensorType) -> None:
        if found.size > MAX_VALUE_ELEMENTS:
            raise ModelError(f"{node.label()}: a result of shape {list(found.extents)} has too many elements")

    def _define_all(self, node: Node, scope: Scope, results: list[np.ndarray]) -> None:
        for output, array in zip(node.outputs, results, strict=True):
            if output:
                self.set_constant(self.define(scope, output), array)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def emit(self, node: Node, scope: Scope, nodes: list[Node]) -> None:
        attrs = {key: self._fold_attribute(value, scope) for key, value in node.attrs.items()}
        inputs = node.inputs
        if self.sequences:
            inputs = tuple([sequences.made_of(self, name, nodes, node.label()) for name in inputs])
        outputs = tuple([self.define(scope, o) if o else "" for o in node.outputs])
        nodes.append(node.changed(inputs=inputs, outputs=outputs, attrs=attrs))

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
        outputs = [Port(sequences.made_of(self, scope[p.name], nodes, p.name), p.type) for p in graph.outputs]
        nodes = needed(nodes, {p.name for p in outputs}, self._captures)
        return replace(graph, inputs=inputs, outputs=outputs, nodes=nodes, constants={})

    def finish(self, graph: Graph) -> Graph:
        """The result for the main graph; raises what is wrong with values that its outputs need."""
        nodes = self.read(graph, self.main)
        outputs = {p.name: self.main[p.name] for p in graph.outputs}
        self.raise_failures(outputs.values())
        sequences.refuse_list_outputs(self, outputs)
        nodes = self._name_outputs(needed(nodes, set(outputs.values()), self._captures), outputs)
        used = set(all_names(nodes)) | {p.name for p in graph.inputs} | set(outputs)
        return replace(
            graph,
            outputs=list(graph.outputs),
            nodes=nodes,
            constants={n: self.values[n] for n in list(self.values) if n in used},
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
                self.values.put(name, self.values[source])
            elif source in produced and source not in new_names and source not in outputs:
                new_names[source] = name
            elif source != name:
                identities.append(Node("Identity", (source,), (name,)))
        return [renamed(node, new_names) for node in nodes + identities] if new_names else nodes + identities


def _is_identity(node: Node) -> bool:
    return node.op == "Identity" and not node.domain and all(node.inputs) and len(node.inputs) == len(node.outputs) == 1


def _as_inferred(node: Node, array: np.ndarray, found: TensorType) -> np.ndarray:
    """The reference operators may return another dtype or strides than the rule says, never another shape."""
    if array.shape != found.shape:
        raise ModelError(f"{node.label()}: evaluated to shape {list(array.shape)}, expected {found.shape}")
    return np.asarray(array, dtype=found.dtype, order="C")
