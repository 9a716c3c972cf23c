"""Your own model and data, taken through calibration, Q/DQ and comparison."""
