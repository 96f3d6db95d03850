"""Kernel families of GPUs, one a file, as ``backends.cpu.families`` has them.

    product       [shift +] dense convolution over a map [+ residual], as a matrix product
    tensor        the same of half precision on tensor cores
    depthwise     one filter a channel [+ residual]
    first         the first convolution, on the camera's bytes; those bytes as a map
    dense         a dense layer, and a convolution over a vector
    elementwise   sums, products and activations that nothing else takes in
    pool          largest and mean values of windows, and of a map
    join          the temporal shift as a map
    keep          states

A unit is a block of threads. What is flat (elements, pixels times channels) is cut by ``threads``.
Activation, residual and bias belong to the convolution's kernel; maps have no border in memory, a
thread tests for it.
"""
