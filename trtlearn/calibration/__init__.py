"""From values to a scale: histogram, entropy search, TensorRT's four calibrators, their cache."""
