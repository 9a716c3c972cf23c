"""An ONNX file: read with care, described, run on the CPU, folded; and the course's own data."""
