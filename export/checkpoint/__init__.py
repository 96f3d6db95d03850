"""Checkpoints in, networks out: four families told apart by their keys, none of them executed.

file -> containers and tensors                                 file
     -> the network's weights, our names, and shifts' places   families
     -> a network, its past first                              load
"""

from shiftedge.export.checkpoint.load import Checkpoint, load_checkpoint, serialise_checkpoint

__all__ = ["Checkpoint", "load_checkpoint", "serialise_checkpoint"]
