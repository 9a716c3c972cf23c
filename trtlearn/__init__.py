"""trtlearn: what TensorRT's INT8 really does, shown by running it."""

__version__ = "0.1.0"
