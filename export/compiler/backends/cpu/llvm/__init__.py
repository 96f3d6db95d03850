"""The kernel IR as machine code: lowered to TVM's TIR, and by its LLVM to an object."""
