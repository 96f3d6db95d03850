"""Code for a kind of device, a folder each."""
