"""Source code from loop nests: what the generated C++ of the CPU and of CUDA have in common."""
