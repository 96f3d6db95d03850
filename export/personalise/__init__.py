"""A model that learns its user's own gestures, on the device, from ten clips of each."""
