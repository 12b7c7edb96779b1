"""Trained weights as frameworks store them, turned into ONNX's one convention. NumPy only; no engine."""
