"""A built engine, as TensorRT describes it: layers, data types, formats, fusions, reasons,
times.
"""
