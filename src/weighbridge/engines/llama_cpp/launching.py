"""The command line for this workload: `llama-server`, with what differs from its defaults."""

import shlex
from collections.abc import Iterator

from weighbridge.engines.llama_cpp.setting import Launch
from weighbridge.engines.serving import Subject
from weighbridge.workload import Infer

PROGRAM = {"server": "llama-server", "cli": "llama-cli"}


def command(s: Subject, at: Launch, w: Infer) -> str:
    words = [PROGRAM[at.program], *_model(s)]
    words += [word for flag, value in _flags(at, w) for word in (flag, value) if word]
    return " ".join(words)


def _model(s: Subject) -> tuple[str, str]:
    if s.part.library == "gguf":
        return "-m", shlex.quote(s.model.loads_as)
    return "-m", f"{shlex.quote(s.model.name.rpartition('/')[2])}-{s.choice.name}.gguf"


def _told_apart(at: Launch) -> bool:
    """With -np slots are apart, where without it they share a cache."""
    return at.unified and not at.rules.unified and at.slots != at.rules.server_slots


def _flags(at: Launch, w: Infer) -> Iterator[tuple[str, str]]:
    numbers = (
        ("-c", at.n_ctx, True),
        (
            "-ngl",
            at.gpu_layers,
            at.gpus and (w.n_gpu_layers is not None or at.rules.gpu_layers == 0),
        ),
        ("-ncmoe", at.cpu_moe, at.cpu_moe),
        ("-np", at.slots, w.parallel or at.slots != at.rules.server_slots),
        ("-b", at.batch, w.n_batch),
        ("-ub", at.ubatch, w.ubatch_size),
        ("-fa", at.asked_flash, w.flash_attn),
        ("-ctk", at.type_k.name.lower(), at.type_k.name != "F16"),
        ("-ctv", at.type_v.name.lower(), at.type_v.name != "F16"),
        ("-sm", at.split_mode, w.split_mode),
        ("-ts", ",".join(f"{x:g}" for x in at.tensor_split), at.tensor_split),
        ("-mg", at.main_gpu, w.main_gpu),
        ("--cache-ram", at.cache_ram, w.cache_ram is not None),
        ("--mmproj", w.mmproj, w.mmproj),
        ("-mla", w.mla_attn, w.mla_attn is not None),
        ("-amb", w.attn_max_b, w.attn_max_b is not None),
    )
    yield from ((flag, str(value)) for flag, value, said in numbers if said)
    switches = (
        ("--kv-unified", bool(w.kv_unified) or _told_apart(at)),
        ("--swa-full", w.swa_full),
        ("--no-kv-offload", not at.cache_offload),
        ("--no-mmap", not at.mmap and not at.repacks),
        ("--embeddings", at.embeds),
        ("-fmoe", bool(w.fused_moe)),
        ("-rtr", at.repacks),
    )
    yield from ((flag, "") for flag, said in switches if said)
