"""From kernels' objects to ``libmodel.so``."""
