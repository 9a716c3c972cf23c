"""A built engine: its layers, data types, formats, fusions, reasons and times, read from what TensorRT says of it."""
