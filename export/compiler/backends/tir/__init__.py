"""TVM's TIR, node by node: what every backend that lowers to it shares."""
