"""Files that ship with the package: the bundled model."""
