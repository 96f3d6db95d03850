"""Rendered scenes: a gesturing person, and a cheap moving pattern."""
