"""From a camera's frames and their times to gestures: clock, cuts, steps, decoder."""
