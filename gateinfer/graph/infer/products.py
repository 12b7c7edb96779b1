"""Matrix products."""

from __future__ import annotations

from gateinfer.graph.infer.elementwise import broadcast, same_dtype
from gateinfer.graph.infer.registry import Query, rule
from gateinfer.graph.ir import Node, TensorType


@rule("MatMul", least=2, most=2)
def _matmul(query: Query) -> TensorType:
    """NumPy's matmul: an operand of rank 1 is a row on the left and a column on the right."""
    lhs, rhs = query.expect_rank(0, 1), query.expect_rank(1, 1)
    left = lhs if len(lhs) > 1 else (1, *lhs)
    right = rhs if len(rhs) > 1 else (*rhs, 1)
    if left[-1] != right[-2]:
        query.fail(f"shapes {list(lhs)} and {list(rhs)} do not multiply: {left[-1]} columns meet {right[-2]} rows")
    rows = left[-2:-1] if len(lhs) > 1 else ()
    columns = right[-1:] if len(rhs) > 1 else ()
    return TensorType(same_dtype(query, (0, 1)), broadcast(query, (left[:-2], right[:-2])) + rows + columns)


@rule("Gemm", least=2, most=3, attrs="alpha beta transA transB broadcast")
def _gemm(query: Query) -> TensorType:
    a, b = query.expect_rank(0, 2, 2), query.expect_rank(1, 2, 2)
    query.float_attr("alpha", 1.0), query.float_attr("beta", 1.0)
    rows, inner = reversed(a) if query.int_attr("transA", 0) else a
    inner_b, columns = reversed(b) if query.int_attr("transB", 0) else b
    if inner != inner_b:
        query.fail(f"shapes {list(a)} and {list(b)} do not multiply: {inner} columns meet {inner_b} rows")
    if query.has(2) and broadcast(query, (query.shape(2), (rows, columns))) != (rows, columns):
        query.fail(f"C of shape {list(query.shape(2))} does not broadcast to {[rows, columns]}")
    return TensorType(same_dtype(query, range(len(query.node.inputs))), (rows, columns))


@rule("Einsum", least=1, most=64, attrs="equation")
def _einsum(query: Query) -> TensorType:
    terms, result = einsum_terms(query)
    extents: dict[str, int] = {}
    for index, term in enumerate(terms):
        shape = query.shape(index)
        if len(term) != len(shape):
            query.fail(f"term {term!r} has {len(term)} letters, input {index} has shape {list(shape)}")
        for letter, extent in zip(term, shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                query.fail(f"letter {letter!r} stands for extents {extents[letter]} and {extent}")
    if not set(result) <= extents.keys():
        query.fail(f"the result {result!r} has letters that no input has")
    return TensorType(same_dtype(query, range(len(terms))), tuple(extents[letter] for letter in result))


def einsum_terms(query: Query) -> tuple[list[str], str]:
    """`einsum_letters` after checks."""
    equation = str(query.attr("equation")).replace(" ", "")
    if "." in equation:
        query.unsupported(f"equation {equation!r}: an ellipsis is not implemented")
    terms, result = einsum_letters(query.node)
    if len(terms) != len(query.node.inputs) or not all(t.isalpha() or not t for t in [*terms, result]):
        query.fail(f"equation {equation!r} does not fit {len(query.node.inputs)} inputs")
    if len(set(result)) < len(result):
        query.fail(f"equation {equation!r} repeats a letter in its result")
    return terms, result


def einsum_letters(node: Node) -> tuple[list[str], str]:
    """(letters of each input, letters of the result) of an Einsum node."""
    left, arrow, result = str(node.attrs["equation"]).replace(" ", "").partition("->")
    if not arrow:
        letters = left.replace(",", "")
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return left.split(","), result
