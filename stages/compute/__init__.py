"""Loops over voxels, on the host by Numba and on the device by CUDA: arrays in, arrays out."""
