"""What TensorRT's calibrators make of activations that we control."""
