"""SGLang's command line: settings that take more than one flag, and SGLang's own defaults."""

from collections.abc import Mapping

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Obstacle, Value, flags
from weighbridge.engines.servers import flags as common
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.rules import NEW_NAMES_ALONE, takes_old_names
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.settings.ranks import Ranks

# Flags of sglang/srt/arg_groups/fields/*.py and srt/server_args.py at 0.5.23; srt/server_args.py at
# 0.5.3 and 0.4.6 for flags that are gone, and at 0.5.19 for old names, which 0.5.20 rejects
TABLE = text_beside(__file__, "flags.txt")
# Old name -> the only name since 0.5.20
RENAMED: Mapping[str, str] = {
    "--dsa-prefill-cp-mode": "--cp-strategy",
    "--enable-dsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-gdn-replayssm-spec": "--enable-linear-replayssm-spec",
    "--enable-nsa-prefill-context-parallel": "--enable-prefill-cp",
    "--enable-prefill-context-parallel": "--enable-prefill-cp",
    "--mamba-scheduler-strategy": "--mamba-radix-cache-strategy",
    "--nsa-decode-backend": "--dsa-decode-backend",
    "--nsa-prefill-backend": "--dsa-prefill-backend",
    "--nsa-prefill-cp-mode": "--cp-strategy",
    "--piecewise-cuda-graph-tokens": "--cuda-graph-bs-prefill",
    "--prefill-cp-mode": "--cp-strategy",
    "--speculative-dflash-draft-window-size": "--speculative-draft-window-size",
}
FLAGS = flags(TABLE, Sglang)
FLAGS |= {old: replace(FLAGS[new], names=(*FLAGS[new].names, old)) for old, new in RENAMED.items()}
UNRECOGNIZED = "sglang.launch_server: error: unrecognized arguments"

TORCHAO = {
    "int4wo-128": "torchao-int4-g128",
    "int4wo-64": "torchao-int4-g64",
    "int4wo-32": "torchao-int4-g32",
    "int4wo-256": "torchao-int4-g256",
    "int8wo": "torchao-int8",
    "int8dq": "torchao-int8",
    "fp8wo": "torchao-fp8",
}
# srt/speculative/spec_info.py; EAGLE without a draft is the checkpoint's own (NEXTN).
ALGORITHMS = {
    "EAGLE": "eagle",
    "EAGLE3": "eagle3",
    "NEXTN": "mtp",
    "FROZEN_KV_MTP": "mtp",
    "STANDALONE": "draft",
    "NGRAM": "ngram",
}
EXCHANGES = ("none",)
LORAS = 8  # srt/arg_groups/fields/lora.py: max_loras_per_batch
ENV = {
    **common.ENV,
    ENGINE.stages: "",
    "SGLANG_USE_MLX": "other_device",
    "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK": "exchange_of_experts",
    "SGLANG_MAMBA_SSM_DTYPE": "state_dtype",
}


def finish(reading: CommandReading) -> None:
    common.model(reading)
    common.quantization(reading, ENGINE)
    _torchao(reading)
    _lora(reading)
    _limits(reading)
    _graphs(reading)
    _experts(reading)
    _speculative(reading)
    common.stages(reading, ENGINE.stages)
    _renamed(reading)
    copies, ranks = _copies(reading), Ranks.of(reading.settings)
    reading.devices = ranks.cards if copies else ranks.copy


def _renamed(reading: CommandReading) -> None:
    """Warn of renamed flags; a release without the old names stops at them."""
    since = ".".join(map(str, NEW_NAMES_ALONE))
    release = tuple(int(n) for n in (reading.program.version or "").split(".") if n.isdigit())
    for old in sorted(reading.given & RENAMED.keys()):
        line = sentence(
            "renamed_flag", flag=old, option=RENAMED[old], engine="sglang", version=since
        )
        reading.warn(line)
        if not takes_old_names(release):
            reading.stops.append(Obstacle("no", line, "tried", UNRECOGNIZED))


def _torchao(reading: CommandReading) -> None:
    said = reading.last("torchao")
    if said is None:
        return
    if said[1] in TORCHAO:
        reading.settings["quantization"] = TORCHAO[said[1]]
    else:
        reading.warn(sentence("method_stored", flag=said[0], method=said[1]))


def _copies(reading: CommandReading) -> bool:
    """Return whether --dp-size multiplies the devices: with data-parallel attention it divides
    those of --tp-size (srt/arg_groups/parallel_hook.py)."""
    copies, apart, attention = (
        reading.last(name) for name in ("copies", "dp_attention", "attention_copies")
    )
    number = 1 if copies is None else int(reading.read("whole", *copies))
    parts = 1 if attention is None else int(reading.read("whole", *attention))
    if apart is not None and parts == 1:
        number, parts = 1, number
    if parts > 1:
        reading.settings |= {"data_parallel_size": parts, "enable_dp_attention": True}
    elif copies is not None and number > 1:
        reading.settings["data_parallel_size"] = number
    said = [flag[0] for flag in (copies, apart, attention) if flag is not None]
    reading.ignored += said if max(number, parts) == 1 else []
    return parts == 1


def _lora(reading: CommandReading) -> None:
    on, paths = reading.last("lora"), reading.last("lora_paths")
    if on is None and paths is None:
        return
    slots = reading.last("loras")
    reading.settings["max_loras"] = LORAS if slots is None else reading.read("whole", *slots)
    rank = reading.last("lora_rank")
    if rank is not None:
        reading.settings["max_lora_rank"] = reading.read("whole", *rank)
    else:
        reading.warn(sentence("lora_ranks"))


def _limits(reading: CommandReading) -> None:
    """Read the images per request: {"image": 2}."""
    for kind, limit in reading.merged("limits").items():
        if kind == "image":
            reading.settings["images"] = reading.read("whole", "--limit-mm-data-per-request", limit)


def _graphs(reading: CommandReading) -> None:
    sizes = reading.last("captures")
    if sizes is not None and sizes[1]:
        sizes_read = [int(reading.read("whole", sizes[0], size)) for size in sizes[1]]
        reading.settings["cuda_graph_max_bs"] = max(sizes_read)
    backend = reading.last("graphs")
    if backend is not None and backend[1] == "disabled":
        reading.settings["disable_cuda_graph"] = True
    elif backend is not None:
        reading.warn(sentence("default_graphs", flag=backend[0], value=backend[1]))


def _experts(reading: CommandReading) -> None:
    """Read the all-to-all backend: with one, experts are whole (srt/arg_groups/moe_hook.py)."""
    said = reading.last("exchange") or reading.last("deepep")
    if said is None or said[1] in EXCHANGES:
        reading.ignored += [] if said is None else [said[0]]
        return
    reading.settings["enable_expert_parallel"] = True
    uncounted = sentence("exchange_buffers", flag=said[0])
    reading.warn(uncounted)
    reading.stops.append(Obstacle("unknown", uncounted))  # sglang issue 23769 died with room


def _speculative(reading: CommandReading) -> None:
    said = reading.last("algorithm")
    if said is None:
        return
    draft = reading.last("draft")
    name = str(said[1]).upper()
    method = ALGORITHMS.get(name)
    if name == "EAGLE" and draft is None:
        method = "mtp"
    if method is None:
        reading.warn(sentence("value_not_modelled", flag=said[0], value=said[1]))
        reading.unmodelled.append("proposed_tokens")
        return
    reading.settings["speculative_method"] = method
    if draft is not None:
        reading.settings["draft_model"] = str(draft[1])
    _drafted(reading)


def _drafted(reading: CommandReading) -> None:
    """Read the proposed tokens: a chain of n steps proposes n + 1, including the model's own
    (srt/arg_groups/speculative_hook.py)."""
    tokens, steps, topk = reading.last("draft_tokens"), reading.last("steps"), reading.last("topk")
    branches = 1 if topk is None else int(reading.read("whole", *topk))
    if steps is not None and branches == 1:
        reading.settings["num_speculative_tokens"] = int(reading.read("whole", *steps)) + 1
    elif tokens is not None:
        reading.settings["num_speculative_tokens"] = reading.read("whole", *tokens)
    if topk is not None and branches > 1:
        reading.warn(sentence("branches", flag=topk[0], count=branches))


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    """srt/arg_groups/memory_hook.py, kv_cache_hook.py, cuda_graph_hook.py."""
    unless: list[tuple[str, Value, str]] = [
        ("context", "the model's maximum", "--context-length is not given"),
        ("mem_fraction_static", "computed", "from the device, the chunk and the graphs"),
        ("chunked_prefill_size", "2048 to 16384", "by the size of the device"),
        ("max_running_requests", "by memory", "what the pool of tokens holds"),
        ("cuda_graph_max_bs", "8 to 512", "by the size of the device"),
        ("disable_cuda_graph", False, "CUDA graphs are captured"),
        ("disable_radix_cache", False, "prefixes are kept"),
        ("kv_cache_dtype", "auto", "the model's own"),
        ("page_size", 1, "tokens; 64 or more with some kernels"),
    ]
    return tuple(row for row in unless if row[0] not in reading.settings)


DIALECT = Dialect(engine=ENGINE.name, flags=FLAGS, finish=finish, defaults=defaults, env=ENV)
