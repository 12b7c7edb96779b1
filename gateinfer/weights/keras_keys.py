"""Keys of Keras layers: `lstm/lstm_cell/kernel:0`, `bidirectional/backward_gru/gru_cell/bias`, `cell/vars/1`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateinfer.errors import ModelError
from gateinfer.weights.arrays import Weight, listed, near_misses
from gateinfer.weights.keys import Found, Match, add_role, missing, single_owner, under_prefix

ROLES: Final = ("kernel", "recurrent_kernel", "bias")
"""In the order of layer.get_weights()."""

_KEY = re.compile(r"(?P<owner>|.*?[/._])(?P<direction>forward_|backward_)?(?P<role>recurrent_kernel|kernel|bias)(:0)?")
_NUMBERED = re.compile(r"(?P<owner>|.*[/.])(?:\w*cell\w*[/.])(?:vars[/.])(?P<role>[012])")
_DIRECTION = re.compile(r"(?:^|(?<=[/._]))(?P<direction>forward|backward)(?:_[^/.]*)?[/.]")


def match_keras(key: str, weight: Weight) -> Match | None:
    """A path of a weight. kernel and bias may also be those of a Dense layer."""
    match = _KEY.fullmatch(key) or _NUMBERED.fullmatch(key)
    if match is None:
        return None
    role = ROLES[int(match["role"])] if match["role"].isdigit() else match["role"]
    owner, direction = match["owner"], match.groupdict().get("direction") or ""
    within = _DIRECTION.search(owner)
    if within and not direction:
        owner, direction = owner[: within.start()], within["direction"]
    return Match(owner, role, weight, backward=direction.startswith("backward"))


def find_keras(weights: Mapping[str, Weight], prefix: str | None) -> Found:
    """The arrays of one layer, or of a Bidirectional one.

    Raises
    ------
    ModelError
        For keys that are missing or that belong to several layers.
    """
    full, inside = under_prefix(weights, prefix or "", match_keras, 'Keras weights ("kernel", ...)')
    every = [match for key, weight in inside.items() if (match := match_keras(key, weight))]
    recurrent = {match.owner for match in every if match.role == "recurrent_kernel"}
    if not recurrent:
        raise ModelError(f'no weight is called "recurrent_kernel"{_hint(weights)}; keys are {listed(weights)}')
    matches = single_owner(m for m in every if m.owner in recurrent)
    directions: list[dict[str, Weight]] = [{} for _ in range(1 + any(m.backward for m in matches))]
    for match in matches:
        add_role(directions[match.backward], match)
    _check_complete(directions, full, weights)
    used = {match.weight.key for match in matches}
    return Found([directions], [full + key for key, weight in inside.items() if weight.key not in used])


def _hint(weights: Mapping[str, Weight]) -> str:
    return near_misses("recurrent_kernel", [re.split("[/.]", key.removesuffix(":0"))[-1] for key in weights])


def _check_complete(directions: list[dict[str, Weight]], prefix: str, weights: Mapping[str, Weight]) -> None:
    wanted = {"kernel", "recurrent_kernel"} | set().union(*directions)
    for number, roles in enumerate(directions):
        for role in sorted(wanted - roles.keys()):
            present = next(iter(roles.values()), None)
            key = (
                prefix + role if present is None else re.sub("(recurrent_)?(kernel|bias)(?=(:0)?$)", role, present.key)
            )
            which = ("forward ", "backward ")[number] if len(directions) == 2 else ""
            used = (weight.key for weight in roles.values())
            raise missing(key, weights, used, f"the {which}layer has to be complete")


def from_list(arrays: Sequence[Any]) -> dict[str, Any]:
    """The list that layer.get_weights() returns, by key: up to three arrays, twice as many when Bidirectional."""
    count = len(arrays)
    if count not in (2, 3, 4, 6):
        raise ModelError(f"a list of Keras weights has 2 or 3 arrays, 4 or 6 when bidirectional; got {count}")
    if count < 4:
        return dict(zip(ROLES, arrays, strict=False))
    names = [side + role for side in ("forward_", "backward_") for role in ROLES[: count // 2]]
    return dict(zip(names, arrays, strict=True))
