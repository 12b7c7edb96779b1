"""Keys of TensorFlow 1 cells: `rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel`, `gru_cell/gates/bias`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateinfer.errors import ModelError
from gateinfer.weights.arrays import Weight, listed
from gateinfer.weights.keys import Found, Match, add_role, missing, under_prefix

_KEY = re.compile(
    r"(?P<owner>|.*?[/._])(?:(?P<part>gates|candidate)[/._])?(?P<role>kernel|bias|w_[ifo]_diag)(?::0)?", re.S
)
_NUMBER = re.compile(r"(?:^|[/._])cell_(\d{1,4})(?=[/._])")


def match_tf(key: str, weight: Weight) -> Match | None:
    """A variable of a cell. kernel and bias may also be those of another layer."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    role = f"{match['part']}/{match['role']}" if match["part"] else match["role"]
    number = _NUMBER.search(match["owner"])
    return Match(match["owner"], role, weight, int(number[1]) if number else 0)


def find_tf(weights: Mapping[str, Weight], prefix: str | None, kind: str | None) -> tuple[Found, str]:
    """The arrays of one cell or of the numbered cells of a MultiRNNCell, and their kind.

    Raises
    ------
    ModelError
        For keys that are missing or cells in no certain order.
    """
    full, inside = under_prefix(weights, prefix or "", match_tf, 'TensorFlow cells ("cell/kernel", ...)')
    matches = [match for key, weight in inside.items() if (match := match_tf(key, weight))]
    if any("cell" in match.owner for match in matches):
        matches = [match for match in matches if "cell" in match.owner]
    by_owner: dict[str, dict[str, Weight]] = {}
    numbers = {match.owner: match.layer for match in matches}
    for match in matches:
        add_role(by_owner.setdefault(match.owner, {}), match)
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ModelError(f"cells in no certain order: {listed(numbers)}; pass prefix= to choose one of them")
    kind = _kind(kind, by_owner)
    for owner, roles in by_owner.items():
        _check_complete(kind, full + owner, roles, weights)
    used = {match.weight.key for match in matches}
    layers = [[by_owner[owner]] for owner in sorted(numbers, key=numbers.__getitem__)]
    return Found(layers, [full + key for key, weight in inside.items() if weight.key not in used]), kind


def _kind(kind: str | None, by_owner: Mapping[str, Mapping[str, Weight]]) -> str:
    """What the caller says, else what the names of the cells say."""
    if kind is not None:
        return kind
    names = " ".join(by_owner)
    if any("gates/kernel" in roles for roles in by_owner.values()):
        return "gru"
    said = [name for name in ("lstm", "rnn_cell") if f"{name}" in names.replace("multi_rnn_cell", "")]
    if len(said) != 1:
        raise ModelError(f"the cells {listed(by_owner)} do not say what they are; pass kind='lstm', 'gru' or 'rnn'")
    return said[0].removesuffix("_cell")


def _check_complete(kind: str, owner: str, roles: Mapping[str, Weight], weights: Mapping[str, Weight]) -> None:
    wanted = (
        {"gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"} if kind == "gru" else {"kernel", "bias"}
    )
    peepholes = {f"w_{gate}_diag" for gate in "ifo"}
    if peepholes & roles.keys():
        wanted |= peepholes
    for role in sorted(wanted - roles.keys()):
        used = (weight.key for weight in roles.values())
        raise missing(owner + role, weights, used, f"a TensorFlow {kind} cell has {', '.join(sorted(wanted))}")
