"""Schedules: one rule a file, from an operator's shape and tiles to kernels and packed weights.

    inverted_residual   [shift +] expand, depthwise, project [+ residual]; or with the stem
    pointwise           [shift +] 1 x 1 convolution [+ residual], dense layers (one pixel)
    dense_conv          [shift +] k x k convolution [+ residual], first convolution on bytes
    tail                [shift +] 1 x 1 convolution and the mean over the image
    grouped_conv        the same in groups: ResNeXt, ShuffleNet, depthwise multipliers
    depthwise, pool     windows over each channel by itself
    padding             a map with its border, for those that need one
    elementwise         sums, products and activations that nothing else takes in
    keep                the next state

Shared: ``product`` (the packed matrix product), ``window`` (windows over channels), ``tiles``.

A rule's ``schedule(name, shape, tiles, unit)`` gives the kernels to run in turn, each with its
buffers by name; ``pack`` the weights under those names; ``tiles_for`` default tiles. A value that
one kernel of a rule writes and the next reads (``hidden``, ``padded``) has the same name in both.
"""
