"""Buffers of DeepEP and HybridEP, outside torch's allocator, that send tokens to experts.

    DeepEP      pieces of what each rank of a machine sends, and with several machines those of
                each machine, in both directions; a workspace of 32 MiB
    HybridEP    all tokens of the group, once for both directions, with the probabilities of experts
                of its NVLink domain; which token goes where; and with several domains what they
                send each other

A domain is taken as a machine of 8 devices; larger ones, as of NVL72, are not counted. Source:
deepseek-ai/DeepEP dd758ca csrc/legacy/{config,buffer}.hpp, deep_ep/buffers/legacy.py
(get_dispatch_config, get_combine_config); 94a9f8f csrc/hybrid_ep/buffer/{intranode,
internode_doca}.cu, csrc/hybrid_ep/extension/allgather.cu; Megatron-LM d98e8a6
core/transformer/moe/fused_a2a.py.
"""

from collections.abc import Mapping

from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB, align_up, ceil_div
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.run import MegatronRun

CHANNELS = 10  # half of 20 multiprocessors
NUMBER = 2  # bytes per element of a token
# Bytes per token besides its elements: its origin, 128 experts with their probabilities, and 128
# scales
BESIDE = 8 + 128 * (8 + 4 + 4)
# ranks -> tokens per piece, from a machine's own ranks and from other machines
PIECES: Mapping[int, tuple[int, int]] = {
    2: (256, 128),
    4: (256, 128),
    8: (256, 128),
    16: (288, 140),
    24: (288, 128),
    32: (288, 128),
    48: (288, 128),
    64: (288, 128),
    96: (480, 132),
    128: (560, 132),
    144: (720, 132),
    160: (720, 132),
}
WORKSPACE = 32 * MIB
GRANULE = 512 * MIB  # allocation unit of buffers between machines (NVSHMEM_CUMEM_GRANULARITY)
SCALED = 128  # elements per scale
PROBABILITY = 4


def buffers(model: MegatronModel, run: MegatronRun) -> Bytes:
    """Return the bytes of a rank's expert-exchange buffers. Raises UsageError for group sizes that
    DeepEP has no settings for."""
    return _hybrid(model, run) if run.dispatcher == "hybridep" else _deep(model, run)


def group(run: MegatronRun) -> int:
    """Return the number of ranks that exchange tokens for experts."""
    return run.expert * run.expert_tensor


def _deep(model: MegatronModel, run: MegatronRun) -> Bytes:
    ranks = group(run)
    if ranks not in PIECES:
        raise UsageError(
            sentence("megatron.deepep", known=", ".join(map(str, PIECES)), ranks=ranks)
        )
    near, far = PIECES[ranks]
    token = NUMBER * model.hidden + BESIDE
    within = CHANNELS * min(ranks, MACHINE) * near * token
    if ranks <= MACHINE:
        return Bytes(within, within + WORKSPACE, within + 2 * WORKSPACE)
    between = 2 * CHANNELS * (ranks // MACHINE) * far * (token + 16)
    low = within + between + WORKSPACE
    granules = align_up(between, GRANULE)
    return Bytes(low, within + granules + WORKSPACE, within + granules + GRANULE + 2 * WORKSPACE)


def _hybrid(model: MegatronModel, run: MegatronRun) -> Bytes:
    feed = model.experts
    assert feed is not None
    ranks, rows = group(run), align_up(run.tokens // run.parts, 16)
    near = min(ranks, MACHINE)
    domains = ceil_div(ranks, near)
    experts = feed.count * run.expert_tensor
    here = experts // ranks * near  # experts per domain
    scales = PROBABILITY * model.hidden // SCALED
    token, others = NUMBER * model.hidden, rows * (domains - 1)
    probabilities = PROBABILITY * here
    held = rows * ranks * (token + probabilities + scales) + experts * rows * ranks
    if domains > 1:
        held += rows * (token + PROBABILITY * experts + scales)
        held += others * (3 * (token + probabilities) + scales)
    return Bytes(held, held, held + 2 * WORKSPACE)
