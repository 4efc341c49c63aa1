"""Accelerators, the allocator and the kernels that run on them."""
