"""Engines: each runs one model file and holds the states of its streams."""
