"""Values to scales: histogram, TensorRT's four calibrators, their cache, Q/DQ pairs in ONNX."""
