"""Evaluates single nodes on constants, with the operators of `onnx.reference` (imported at the first use)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.ir import Node

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
    """True when `evaluate` knows the operator. Without the onnx package it knows none."""
    return not node.domain and node.op in FOLDABLE and _operator(node.op, opset) is not None


def evaluate(node: Node, arguments: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """The outputs of a node that `can_evaluate` accepts, on known inputs; None stands for an omitted one.

    Raises
    ------
    ModelError
        When the operator cannot be computed on these inputs.
    """
    operator = _operator(node.op, opset)
    proto = _proto(node)
    given = list(arguments)
    while given and given[-1] is None:
        given.pop()
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(o) for o in operator(proto, _run_parameters(opset)).run(*given)]
    except MemoryError:
        raise ModelError(f"{node.label()} cannot be computed: not enough memory") from None
    except Exception as error:  # the reference operators raise whatever NumPy raises inside them
        cause = error.__cause__ or error
        raise ModelError(f"{node.label()} cannot be computed on its constant inputs: {cause}") from None


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


def _proto(node: Node) -> Any:
    from onnx import NodeProto, helper, numpy_helper

    # Any names do: the operators look at which operands are omitted, and at how many results are wanted.
    proto = NodeProto(op_type=node.op, input=node.inputs, output=node.outputs)
    for name, value in node.attrs.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
        kind = helper.AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    return proto
