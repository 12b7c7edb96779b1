"""A hydrology LSTM, one hour at a time: forcings in, streamflow out, the catchment's memory kept between calls.

    python examples/streamflow.py model_epoch009.pt forcings.npz

A trained neuralhydrology LSTM, such as those of github.com/NOAA-OWP/lstm (Apache-2.0): its .pt file, which is read as
plain arrays and needs no torch, or an export to ONNX with inputs x [1, 1, features], h, c. forcings.npz holds an array
x [hours, features], already normalised.
"""

import argparse

import numpy as np

import gateinfer as gi


def load(path: str) -> gi.Model:
    """An .onnx file, or the arrays of a neuralhydrology CudaLSTM: one LSTM and its head."""
    if path.endswith(".onnx"):
        return gi.load(path)
    arrays = gi.load_arrays(path)
    head = gi.layers.Dense(arrays["head.net.0.weight"], arrays["head.net.0.bias"])
    return gi.Sequential([gi.layers.LSTM(arrays, prefix="lstm"), head])


def simulate(model: gi.Model, forcings: np.ndarray) -> np.ndarray:
    """forcings [hours, features] -> flow [hours]. Bound buffers: the loop allocates nothing."""
    frame = model.inputs[0].name
    stream = model.stream(shapes={frame: (1, 1, forcings.shape[1])})
    result = next(iter(stream.outputs[name] for name in stream.result_names))
    flow = np.empty(len(forcings), np.float32)
    for hour, forcing in enumerate(forcings):
        stream.inputs[frame][0, 0] = forcing
        stream.step()
        flow[hour] = result.ravel()[0]
    return flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=".pt or .onnx")
    parser.add_argument("forcings", help="npz with x [hours, features]")
    args = parser.parse_args()
    with np.load(args.forcings, allow_pickle=False) as file:
        if "x" not in file or file["x"].ndim != 2:
            parser.error(f"{args.forcings}: expected an array x [hours, features], found {', '.join(file.files)}")
        forcings = file["x"]
    flow = simulate(load(args.model), forcings)
    peak = float(flow.max())
    for day in range(0, len(flow), 24):
        mean = float(flow[day : day + 24].mean())
        print(f"day {day // 24 + 1:3d} {mean:9.4f} {'#' * round(50 * max(mean, 0) / peak) if peak > 0 else ''}")


if __name__ == "__main__":
    main()
