"""An ONNX file: read with care, described, run on the CPU, folded; and the networks and images of the course."""
