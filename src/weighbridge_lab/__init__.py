"""The laboratory: runs that estimates are held against. The estimator never imports it.

trace/      a program's real step on a simulated GPU, without a GPU
exact/      the real class of transformers on that GPU: `--exact`
measure/    a program on a real GPU, beside the simulated one
golden/     the programs that are measured on every new card
evidence/   published measurements, and how near estimates come to them
"""
