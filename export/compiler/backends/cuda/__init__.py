"""NVIDIA's GPUs: schedules over blocks of threads, PTX made by TVM's LLVM."""
