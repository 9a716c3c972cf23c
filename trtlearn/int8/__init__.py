"""Eight bits in numpy: numbers, integer layers, whole networks in INT8, and Q/DQ pairs in ONNX."""
