"""``shiftedge bench --emulate``: a compiled model on an emulated ARM machine, its instructions
counted and its cycles predicted."""
