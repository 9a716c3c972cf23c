"""Engines of one layer with INT8 in and out: what their kernels compute."""
