"""Keys of torch.nn.LSTM, GRU, RNN and their cells: `weight_ih_l0`, `bias_hh_l1_reverse`, `weight_hr_l0`, `w_ih`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateinfer.errors import ModelError
from gateinfer.weights.arrays import Weight, listed
from gateinfer.weights.keys import Directions, Found, Match, add_role, missing, single_owner, under_prefix

_KEY = re.compile(
    r"(?P<owner>|.*[^A-Za-z])(?P<what>weight|bias|w|b)_(?P<part>ih|hh|hr)(_l(?P<layer>\d{1,4}))?(?P<back>_reverse)?"
)
_LOOKS_RECURRENT = re.compile(r"(?:^|[^A-Za-z])(?:weight|bias|w|b)_[ih]h|_[ih]h_l\d")


def match_torch(key: str, weight: Weight) -> Match | None:
    """A key of a state_dict, with whatever comes before."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    what = {"w": "weight", "b": "bias"}[match["what"][0]]
    if what == "bias" and match["part"] == "hr":
        return None
    return Match(match["owner"], f"{what}_{match['part']}", weight, int(match["layer"] or 0), bool(match["back"]))


def find_torch(weights: Mapping[str, Weight], prefix: str | None) -> Found:
    """The arrays of one module: all layers, each with all directions.

    Raises
    ------
    ModelError
        For keys that are missing, that nearly match, or that belong to several modules.
    """
    what = 'PyTorch recurrent weights ("weight_ih_l0", ...)'
    full, inside = under_prefix(weights, prefix or "", match_torch, what)
    matches = {key: match_torch(key, weight) for key, weight in inside.items()}
    layers = _layers(single_owner(filter(None, matches.values())), weights)
    others = [full + key for key, match in matches.items() if match is None]
    _refuse_misspelled(others)
    return Found(layers, others)


def _refuse_misspelled(others: list[str]) -> None:
    odd = [key for key in others if _LOOKS_RECURRENT.search(key)]
    if odd:
        raise ModelError(
            f"these keys look like PyTorch recurrent weights and match no pattern: {listed(odd)}; expected "
            "weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0, each also with _reverse"
        )


def _layers(matches: list[Match], weights: Mapping[str, Weight]) -> list[Directions]:
    """Roles by layer and direction: none may be missing that others have."""
    count = 1 + max(match.layer for match in matches)
    if count > len(matches):
        raise ModelError(f"layer {count - 1} is among {len(matches)} recurrent weights; earlier layers are missing")
    both = any(match.backward for match in matches)
    layers: list[Directions] = [[{} for _ in range(1 + both)] for _ in range(count)]
    for match in matches:
        add_role(layers[match.layer][match.backward], match)
    wanted = {match.role for match in matches} | {"weight_ih", "weight_hh"}
    if wanted & {"bias_ih", "bias_hh"}:
        wanted |= {"bias_ih", "bias_hh"}
    for number, directions in enumerate(layers):
        for backward, roles in enumerate(directions):
            for role in sorted(wanted - roles.keys(), reverse=True):
                key = _spelled(matches[0], role, number, bool(backward))
                used = (match.weight.key for match in matches)
                raise missing(key, weights, used, f"layer {number} has to be complete")
    return layers


def _spelled(example: Match, role: str, layer: int, backward: bool) -> str:
    """The key of a role, spelled as the key of `example` is."""
    match = _KEY.fullmatch(example.weight.key)
    assert match is not None  # a prefix in front changes nothing: the owner takes it up
    what, part = role.split("_")
    name = f"{what[: len(match['what'])] if len(match['what']) == 1 else what}_{part}"
    number = "" if match["layer"] is None else f"_l{layer}"
    return match["owner"] + name + number + ("_reverse" if backward else "")
