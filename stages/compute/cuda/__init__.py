"""CUDA sources, how their kernels are started, and the way of an array to the device and back."""
