"""Writes torch_golden.npz: weights and float64 outputs of torch.nn modules. Run with PyTorch installed.

Keys are `case/w/<key of the state_dict>`, `case/x`, `case/y` and, without proj_size, `case/h`, `case/c` (start states),
`case/yh`, `case/hn`, `case/cn` (results from them). Names of cases tell the module: see `CASES`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

BATCH, STEPS, INPUT, HIDDEN = 2, 5, 3, 5

CASES = {
    "LSTM-1": {},
    "LSTM-3-bidirectional": {"num_layers": 3, "bidirectional": True},
    "LSTM-2-batch_first": {"num_layers": 2, "batch_first": True},
    "LSTM-2-nobias": {"num_layers": 2, "bias": False},
    "LSTM-2-proj": {"num_layers": 2, "proj_size": 2},
    "LSTM-2-proj-bidirectional": {"num_layers": 2, "proj_size": 2, "bidirectional": True},
    "GRU-1": {},
    "GRU-3-bidirectional": {"num_layers": 3, "bidirectional": True},
    "GRU-2-batch_first": {"num_layers": 2, "batch_first": True},
    "RNN-2": {"num_layers": 2},
    "RNN-2-relu-bidirectional": {"num_layers": 2, "nonlinearity": "relu", "bidirectional": True},
}


def run(name: str, options: dict) -> dict[str, np.ndarray]:
    kind = name.split("-")[0]
    module = getattr(torch.nn, kind)(INPUT, HIDDEN, **options).double()
    for parameter in module.parameters():
        parameter.data = parameter.data.float().double()
    batch_first = options.get("batch_first", False)
    x = torch.randn((BATCH, STEPS, INPUT) if batch_first else (STEPS, BATCH, INPUT)).float().double()
    arrays = {f"w/{key}": value.float() for key, value in module.state_dict().items()}
    arrays |= {"x": x.float(), "y": module(x)[0]}
    if not options.get("proj_size"):
        rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        h, c = (torch.randn(rows, BATCH, HIDDEN).float().double() for _ in range(2))
        y, state = module(x, (h, c) if kind == "LSTM" else h)
        hn, cn = state if kind == "LSTM" else (state, torch.zeros(0))
        arrays |= {"h": h.float(), "c": c.float(), "yh": y, "hn": hn, "cn": cn}
    return {f"{name}/{key}": value.detach().numpy() for key, value in arrays.items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    golden: dict[str, np.ndarray] = {}
    for name, options in CASES.items():
        golden |= run(name, options)
    np.savez_compressed(Path(__file__).with_name("torch_golden.npz"), **golden)
