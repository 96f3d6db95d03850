"""Measurements: step latency against named peers."""
