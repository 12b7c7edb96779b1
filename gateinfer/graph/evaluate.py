"""Evaluates single nodes on constants, with the operators of `onnx.reference` (imported at the first use)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, ModelError
from gateinfer.graph.ir import Node

FOLDABLE: Final = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Cast CastLike Ceil Celu Clip Compress Concat
    ConstantOfShape Cos Cosh CumSum Div Elu Equal Exp Expand EyeLike Flatten Floor Gather GatherElements
    GatherND Gemm Greater GreaterOrEqual HardSigmoid IsInf IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax
    MatMul Max Mean Min Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)
"""Operators worth evaluating when a program is built: element-wise ones, and those that compute shapes and indices."""


def evaluate(node: Node, arguments: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """The outputs of `node` on known inputs; None stands for an omitted one.

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
    except Exception as error:  # noqa: BLE001  # the reference operators raise whatever NumPy raises inside them
        cause = error.__cause__ or error
        raise ModelError(f"{node.label()} cannot be computed on its constant inputs: {cause}") from None


@cache
def _operator(op: str, opset: int) -> Any:
    try:
        from onnx.reference.ops._op_list import load_op
    except ImportError:
        raise GateInferError("folding constants needs the onnx package: pip install gateinfer[onnx]") from None
    try:
        return load_op("", op, opset)
    except Exception as error:  # noqa: BLE001  # the registry raises seven kinds of errors
        raise ModelError(f"{op} of operator set {opset} cannot be evaluated: {error}") from None


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
