"""Kernel families, one a file, and what they share.

    inverted_residual   [shift +] expand, depthwise, project [+ residual]; or with the stem
    tail                [shift +] 1 x 1 convolution and the mean over the image
    separate            both of these, where they do not fit, as smaller kernels
    pointwise           [shift +] 1 x 1 convolution [+ residual]
    depthwise           one filter a channel, by itself
    conv                any other convolution, in groups or not; the first one on bytes
    dense               a dense layer
    frame               the camera's bytes as a map
    elementwise         sums, products and activations that nothing else takes in
    pool                largest and mean values of windows, and of a map
    join                the temporal shift as a map
    keep                states

``rules`` lists them in the order in which they are asked. A family is a module with
``matches(kernel, context)``, whether it takes a kernel of ``graph.fusion``, and ``lower(kernel,
context)``, which adds its calls to the step. Within, ``schedule(name, shape, tiles, unit)`` gives
the kernels to run in turn, each with its buffers by name; ``pack`` the constants under those names;
``candidates`` the tilings that ``choose`` tries. A value that one kernel of a family writes and the
next reads (``hidden``, ``padded``) has the same name in both.

Shared: ``arithmetic`` (of a precision), ``product`` (the packed matrix product), ``window``
(windows over channels), ``padding`` (a map with its border), ``tiles``, ``pairs``.
"""
