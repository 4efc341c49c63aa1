"""Operators: what each allocates and saves, and what its gradient allocates.

    pointwise.py   sums, products, activations, casts, dropout
    matrix.py      linears and products of matrices
    norms.py       norms, as one kernel and as transformers writes them out
    shaping.py     slices, joins, repeated KV heads, picked rows, embeddings
    attention.py   kernels of attention
    biases.py      learned biases of attention, and sinks
    experts.py     tokens routed to experts, grouped products
    scans.py       state spaces and recurrences, written out
    packed.py      linears whose weights are quantized

Sources: torch 2.13 tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp.
"""
