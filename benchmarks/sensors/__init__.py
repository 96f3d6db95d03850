"""What a board tells of itself: clocks, governor, temperature, throttling, energy.

Nothing here raises into a benchmark: what cannot be read is None with a reason, never 0.
"""
