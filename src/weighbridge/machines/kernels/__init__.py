"""Memory that kernels of torch and its libraries take in addition to their inputs and outputs.

attention.py    which kernel scaled_dot_product_attention takes, and its accumulators in memory
reductions.py   sums whose blocks of threads meet in a buffer, gradients of embeddings
workspaces.py   what cuBLAS takes for products, and cuDNN to put channels last
nccl.py         buffers of a communicator

Sizes go in, bytes come out: no tensors, so that the closed form of training (forward/ops), the
engines and the fake GPU (trace/hidden) share these rules. A card is an `accelerators.chips.Chip`.
"""
