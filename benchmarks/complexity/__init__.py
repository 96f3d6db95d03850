"""``shiftedge bench complexity``: what the networks of the TSM paper cost, counted and measured."""
