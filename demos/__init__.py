"""Demonstrations for people: a film, a window, a stream of events."""
