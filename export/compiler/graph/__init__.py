"""The step as a graph of operators over feature maps, and which of them run together."""
