"""A service of systemd: ``unit`` is what it is told, ``manager`` asks it."""
