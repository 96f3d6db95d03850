"""Kernels as data: loops over tiles, integer expressions, calls."""
