"""The TensorRT side: ranges, calibrators, builds and runs on a GPU.

One file imports TensorRT (trt.py), one imports CUDA (cuda.py).
"""
