"""Evaluates single nodes on constants: plain ones directly, others with the operators of `onnx.reference`.

That package is imported at the first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.ir import Node, TensorType
from gateinfer.graph.node_proto import node_proto
from gateinfer.graph.plain_ops import compute, is_plain

FOLDABLE: Final = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Cast CastLike Ceil Celu Clip Compress Concat
    ConstantOfShape Cos Cosh CumSum Div Elu Equal Exp Expand EyeLike Flatten Floor Gather GatherElements
    GatherND Gemm Greater GreaterOrEqual HardSigmoid IsInf IsNaN LeakyRelu Less LessOrEqual Log
    MatMul Max Mean Min Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softplus Softsign Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)
"""Operators worth evaluating when a program is built: element-wise ones, and those that compute shapes and indices."""


def can_evaluate(node: Node, opset: int) -> bool:
    """True when `evaluate` knows the operator. Without the onnx package it knows the plain ones only."""
    if node.domain or node.op not in FOLDABLE:
        return False
    return is_plain(node) or _operator(node.op, opset) is not None


def evaluate(
    node: Node, types: Sequence[TensorType], arguments: Sequence[np.ndarray | None], opset: int
) -> list[np.ndarray]:
    """The outputs of a node that `can_evaluate` accepts.

    Parameters
    ----------
    types : of the outputs, as inferred.
    arguments : values of the inputs; None for an omitted one.

    Raises
    ------
    ModelError
        When the operator cannot be computed on these inputs.
    """
    try:
        with np.errstate(all="ignore"):
            if is_plain(node):
                return compute(node, types, arguments, opset)
            return _by_reference(node, arguments, opset)
    except MemoryError:
        raise ModelError(f"{node.label()} cannot be computed: not enough memory") from None
    except Exception as error:  # the reference operators raise whatever NumPy raises inside them
        cause = error.__cause__ or error
        raise ModelError(f"{node.label()} cannot be computed on its constant inputs: {cause}") from None


def _by_reference(node: Node, arguments: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    given = list(arguments)
    while given and given[-1] is None:
        given.pop()
    operator = _operator(node.op, opset)
    # Any names do: the operators look at which operands are omitted, and at how many results are wanted.
    return [np.asarray(o) for o in operator(node_proto(node), _run_parameters(opset)).run(*given)]


@cache
def _operator(op: str, opset: int) -> Any:
    """The reference operator of that version, or None."""
    try:
        from onnx.reference.ops._op_list import load_op

        return load_op("", op, opset)
    except Exception:  # an absent package, or one of the seven kinds of errors of the registry
        return None


def _run_parameters(opset: int) -> dict[str, Any]:
    return {"verbose": 0, "log": lambda *_: None, "opsets": {"": opset}, "new_ops": None}
