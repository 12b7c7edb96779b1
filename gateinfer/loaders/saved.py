"""The file `Model.save` writes: an .npz of the neutral graph's arrays, with the rest of it as JSON in one of them.

The graph is stored as it is after loading, so a model from any source comes back with the same nodes and the same bits.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.checks import MAX_DEPTH, MAX_GRAPHS, MAX_NODES, check_graph, refuse_nonfinite_weights
from gateinfer.graph.infer.recurrent import check_recurrent_nodes
from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph, Node, Port, TensorType

DESCRIPTION: Final = "gateinfer_graph"
"""Key of the array whose bytes are the JSON text."""
VERSION: Final = 1

_DTYPES: Final = frozenset(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool void".split()
)


def dump_graph(graph: Graph) -> bytes:
    """The content of a file that `graph_from_arrays` understands."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps({"version": VERSION, "graph": _dump(graph, arrays)})
    arrays[DESCRIPTION] = np.frombuffer(text.encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _dump(graph: Graph, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "name": graph.name,
        "opset": graph.opset,
        "domains": graph.domains,
        "unstreamable": graph.unstreamable,
        "inputs": [_dump_port(port) for port in graph.inputs],
        "outputs": [_dump_port(port) for port in graph.outputs],
        "constants": {name: _store(array, arrays) for name, array in graph.constants.items()},
        "defaults": {name: _store(array, arrays) for name, array in graph.defaults.items()},
        "nodes": [
            [n.op, n.domain, n.name, n.inputs, n.outputs, {k: _dump_value(v, arrays) for k, v in n.attrs.items()}]
            for n in graph.nodes
        ],
    }


def _dump_port(port: Port) -> list[Any]:
    return [port.name, np.dtype(port.dtype).name, port.shape]


def _store(array: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    """Arrays are numbered: names of values may be anything, names in an archive should not."""
    key = f"a{len(arrays)}"
    if array.dtype.name not in _DTYPES or array.dtype == UNKNOWN_DTYPE:
        raise ModelError(f"the model holds an array of {array.dtype}, which cannot be saved")
    arrays[key] = np.asarray(array)
    return key


def _dump_value(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Numbers and text as they are, everything else tagged."""
    if isinstance(value, (list, tuple)):
        return [_dump_value(v, arrays) for v in value]
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):
        return {"array": _store(value, arrays)}
    if isinstance(value, Graph):
        return {"graph": _dump(value, arrays)}
    if isinstance(value, np.generic):
        return value.item()
    return value


# ---- reading ---------------------------------------------------------------------------------------------------------


def graph_from_arrays(arrays: Mapping[str, np.ndarray], *, allow_nonfinite: bool = False) -> Graph:
    """The graph in a saved file's arrays, checked like one from any other file.

    Raises
    ------
    ModelError
        For a description that is malformed, of a later version, or refers to arrays that are not there.
    """
    try:
        described = json.loads(arrays[DESCRIPTION].tobytes().decode())
        version = described["version"]
        if version != VERSION:
            raise ModelError(f"the file was saved by a later version (format {version!r}, known is {VERSION})")
        graph = _Reader(arrays).graph(described["graph"], 0)
    except ModelError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise ModelError(
            f"the description of the saved model is malformed: {type(error).__name__} {error}"[:300]
        ) from None
    if not graph.outputs:
        raise ModelError("the graph has no outputs")
    check_graph(graph)
    check_recurrent_nodes(graph)
    if not allow_nonfinite:
        refuse_nonfinite_weights(graph)
    return graph


class _Reader:
    """Turns JSON into a graph. Wrong types raise what Python raises, which the caller translates."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._nodes = self._graphs = 0

    def graph(self, text: Any, depth: int) -> Graph:
        self._nodes += len(text["nodes"])
        self._graphs += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES or self._graphs > 1 + MAX_GRAPHS:
            raise ModelError(
                f"the saved model nests graphs deeper than {MAX_DEPTH}, or has more than {MAX_NODES} nodes or "
                f"{MAX_GRAPHS} sub-graphs"
            )
        return Graph(
            inputs=[_port(port) for port in text["inputs"]],
            outputs=[_port(port) for port in text["outputs"]],
            nodes=[self._node(node, depth) for node in text["nodes"]],
            constants={_text(name): self._array(key) for name, key in text["constants"].items()},
            opset=_number(text["opset"]),
            defaults={_text(name): self._array(key) for name, key in text["defaults"].items()},
            name=_text(text["name"]),
            domains={_text(domain): _number(version) for domain, version in text["domains"].items()},
            unstreamable=_text(text["unstreamable"]),
        )

    def _node(self, node: Any, depth: int) -> Node:
        op, domain, name, inputs, outputs, attrs = node
        return Node(
            _text(op),
            tuple(map(_text, inputs)),
            tuple(map(_text, outputs)),
            {_text(key): self._value(value, depth) for key, value in attrs.items()},
            _text(domain),
            _text(name),
        )

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [self._value(v, depth) for v in value]
        if not isinstance(value, dict):
            if value is None:
                raise TypeError("an attribute is null")
            return value
        ((tag, content),) = value.items()
        if tag == "bytes":
            return base64.b64decode(content, validate=True)
        if tag == "array":
            return self._array(content)
        if tag == "graph":
            return self.graph(content, depth + 1)
        raise TypeError(f"an attribute is tagged {tag!r}")

    def _array(self, key: Any) -> np.ndarray:
        return self._arrays[_text(key)]


def _port(port: Any) -> Port:
    name, dtype, shape = port
    if dtype not in _DTYPES:
        raise TypeError(f"element type {dtype!r}")
    dims = None if shape is None else tuple(d if d is None or isinstance(d, str) else _number(d) for d in shape)
    return Port(_text(name), TensorType(UNKNOWN_DTYPE if dtype == "void" else np.dtype(dtype), dims))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError(f"expected a number >= 0, got {value!r}")
    return value
