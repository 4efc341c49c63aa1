"""Logits while vLLM profiles: one row a sequence, of the whole vocabulary.

Bytes an entry, e the model's own dtype; all of them are alive at once:

    sort         e + 4, sorted values 4 and indices 8, then 8 + 12 of the sort (from 128 rows on),
                 or 8 + 8 + 4 + 12 (below): 36 + e and 48 + e
    triton       e + 4, probabilities 4, random numbers 4; and a row of float32 a processor, kept
    flashinfer   e + 4, masked 4, probabilities 4
    newer runner float32: e + 4; own: e; warm: as flashinfer

The newer runner counts tokens a sequence besides: 4 bytes and a bit an entry, for every sequence.

Source: vllm 0.11, 0.19, 0.23, 0.33 v1/worker/gpu_model_runner.py (_dummy_sampler_run),
v1/sample/sampler.py, v1/sample/ops/topk_topp_sampler.py, topk_topp_triton.py (buffer),
v1/worker/gpu/sample/ (sampler.py, penalties.py); ATen/native/cuda/Sort.cpp and
cuda/cub.cuh (segmented_sort_pairs, segmented_sort_pairs_by_full_sort). gpt-oss-20b with 1,024 rows
took 7.38 GiB in 0.11 (38 bytes an entry), 2.87 in 0.19 (14).
"""

from weighbridge.units import align_up, ceil_div

FLOAT32 = 4
PADDED = 64  # rows of the head: vllm model_executor/layers/vocab_parallel_embedding.py
SEGMENTS = 128  # rows from which sorting takes less
FEW = 8  # rows below which the Triton kernel was not used
BITS = 32
AFTER_SORT = 36
AFTER_FULL_SORT = 48


def entry(kind: str, itemsize: int, rows: int) -> int:
    """Bytes of one logit at the worst moment. `kind`: a sampler, or the newer runner's way."""
    copied = FLOAT32 if itemsize != FLOAT32 else 0  # float32 logits are not copied again
    if kind == "sort" or (kind == "triton" and rows < FEW):
        spared = FLOAT32 - copied
        return itemsize + (AFTER_SORT if rows >= SEGMENTS else AFTER_FULL_SORT) - spared
    if kind == "own":
        return itemsize
    if kind == "float32":
        return itemsize + FLOAT32
    return itemsize + copied + 2 * FLOAT32


def again(kind: str, itemsize: int) -> int:
    """Bytes of one logit that float32 takes beyond its entry, as published: the code shows none."""
    return FLOAT32 if itemsize == FLOAT32 and kind in ("triton", "flashinfer", "warm") else 0


def padded(vocabulary: int) -> int:
    return align_up(vocabulary, PADDED)


def buffer(kind: str, rows: int, vocabulary: int, processors: int) -> int:
    """Return the bytes of the Triton kernel's buffer: a row of `vocabulary` numbers for each
    program."""
    if kind != "triton" or rows < FEW:
        return 0
    programs = min(processors, rows)
    rows_held = min(1 << (programs - 1).bit_length(), processors)
    return rows_held * vocabulary * FLOAT32


def counts(sequences: int, vocabulary: int) -> int:
    """Return the bytes of the newer runner's counts: how often each sequence has each token, and a
    bit for those in its prompt."""
    return sequences * FLOAT32 * (vocabulary + ceil_div(vocabulary, BITS))
