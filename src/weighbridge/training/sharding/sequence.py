"""Context parallelism: how ranks attend to each other's tokens, by library, and what they refuse.

    torch's context parallelism     accelerate (cp_size, cp_comm_strategy), torchtitan
                                    (context_parallel_rotate_method), torchtune: keys and values are
                                    gathered, or by `alltoall` rotated. Only by sdpa; no masks
    DeepSpeed's Ulysses (ALST)      accelerate (sp_size), and so the Trainer and TRL: heads are
                                    exchanged. Only with DeepSpeed; not by eager attention
    ring-flash-attention            axolotl up to 0.19: `batch_ring`, and for packed samples
                                    `varlen_llama3`, which gathers one KV head after the other
    ms-swift                        heads are exchanged among as many ranks as divide the KV heads,
                                    the rest is a ring

A rank has 1 / N of the tokens everywhere else, logits and loss too: labels are shifted before they
are split, and of the loss only its value is gathered. States are sharded over all ranks, data x
sequence: FSDP's mesh is dp_shard_cp, DeepSpeed's group seq_data_parallel.

Source: accelerate 1.15 parallelism_config.py, accelerator.py (_prepare_cp, _prepare_deepspeed),
big_modeling.py; transformers 5.23 trainer.py (_prepare_context_parallel_inputs),
integrations/deepspeed.py (deepspeed_sp_compute_loss); DeepSpeed 016d2f70
runtime/sequence_parallel/ulysses_sp.py (register_with_transformers); axolotl 0763f1a
monkeypatch/ring_attn/patch.py, utils/schemas/config.py (ring_attn_func); ms-swift b6e3c936
sequence_parallel/sequence_parallel.py; torchtitan config/configs.py.
"""

from collections.abc import Mapping

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.settings.ranks import ALLGATHER, HEADS, RING, ULYSSES
from weighbridge.training.frameworks import Framework
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.workload import Train

USUAL: Mapping[str, str] = {"axolotl": RING, "deepspeed": ULYSSES}
OF_DEEPSPEED = ("accelerate", "trainer", "trl")  # have Ulysses if DeepSpeed shards
BY_FLASH = (HEADS,)  # only flash-attention's own kernels


def way(
    w: Train, framework: Framework, sharding: Sharding, body: Body, attention: str | None
) -> str:
    """Return the method of context-parallel attention, the user's or the framework's; "" without
    such ranks, or without attention. Raises UsageError if the libraries refuse."""
    asked = w.context_parallel_by
    refuse_alone(asked, sharding)
    if sharding.context == 1:
        return ""
    if not any(isinstance(x, Attention | Latent) for b in body.blocks for x in b.mixers):
        return ""
    by = asked or _usual(framework.name, sharding)
    if attention == "eager":
        raise UsageError(sentence("context.eager", ranks=sharding.context))
    if by in BY_FLASH and attention not in (None, "flash"):
        raise UsageError(sentence("context.by_flash", by=by, attention=attention))
    if by == ULYSSES:
        _refuse_heads(body, sharding)
    return by


def refuse_alone(asked: str | None, sharding: Sharding) -> None:
    """Raise UsageError for a context-parallel method without context-parallel ranks."""
    if asked and sharding.context == 1:
        raise UsageError(sentence("context.alone", asked=asked))


def _usual(framework: str, sharding: Sharding) -> str:
    if framework in OF_DEEPSPEED and sharding.kind.startswith("zero"):
        return ULYSSES
    return USUAL.get(framework, ALLGATHER)


def _refuse_heads(body: Body, sharding: Sharding) -> None:
    """Raise UsageError unless heads divide by context-parallel ranks, and KV heads and ranks divide
    one another."""
    ranks, tensor = sharding.context, sharding.tensor
    attentions = (x for b in body.blocks for x in b.mixers if isinstance(x, Attention))
    for heads, keys in sorted({(x.heads // tensor, x.kv_heads // tensor) for x in attentions}):
        keys = max(1, keys)
        if heads % ranks or (keys % ranks and ranks % keys):
            raise UsageError(sentence("context.heads", ranks=ranks, heads=heads, keys=keys))
