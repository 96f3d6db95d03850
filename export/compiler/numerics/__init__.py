"""Precisions: how numbers are stored, added up and rounded."""
