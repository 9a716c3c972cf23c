"""Eight bits in numpy: quantize, dequantize, integer layers, whole networks in INT8, and Q/DQ pairs in ONNX."""
