"""What a program needs of its system: signals, streams, files, the processor, other packages."""
