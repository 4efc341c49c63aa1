"""Operators: what each makes and saves, and what its gradient makes.

    pointwise.py   sums, products, activations, casts, dropout
    matrix.py      linears and products of matrices
    norms.py       norms, as one kernel and as transformers writes them out
    shaping.py     cuts, joins, copies for more heads, rows that are picked
    attention.py   kernels of attention
    losses.py      embeddings, softmax, cross-entropy

Sources: torch 2.13 tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp.
"""
