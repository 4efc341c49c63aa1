"""Operators: what each makes and saves, and what its gradient makes.

    pointwise.py   sums, products, activations, casts, dropout
    matrix.py      linears and products of matrices
    norms.py       norms, as one kernel and as transformers writes them out
    shaping.py     cuts, joins, copies for more heads, rows that are picked, embeddings
    attention.py   kernels of attention
    biases.py      learned biases of attention, and sinks
    experts.py     tokens dealt out to experts, products in groups
    scans.py       state spaces and recurrences, written out
    packed.py      linears whose weights are packed

Sources: torch 2.13 tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp.
"""
