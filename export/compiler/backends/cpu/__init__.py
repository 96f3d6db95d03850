"""CPUs: x86, ARM; targets, kernel families, their costs, and code by LLVM."""
