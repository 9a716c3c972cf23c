"""Small networks of many kinds, to compare our calibrators with TensorRT's."""
