"""Files that ship with the package: the checkpoint of the bundled model, to train on from."""
