"""vLLM's command line: settings that take more than one flag, and vLLM's own defaults."""

from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import Version
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Obstacle, Value, flags
from weighbridge.engines.servers import flags as common
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.effective import PLAIN_AWQ
from weighbridge.engines.vllm.rules import PIECEWISE, rules
from weighbridge.engines.vllm.settings import Vllm
from weighbridge.settings.ranks import Ranks

# Flags of vllm/engine/arg_utils.py and vllm/entrypoints/common/cli_args.py at 0.33.0; of these and
# vllm/entrypoints/openai/cli_args.py, at 0.19.0, 0.11.0, 0.9.2 and 0.6.6 for flags that are gone
TABLE = text_beside(__file__, "flags.txt")
FLAGS = flags(TABLE, Vllm, negations=True)
METHODS = {"draft_model": "draft", "draft": "draft", "eagle": "eagle", "eagle3": "eagle3"}
GRAPH_KEYS = ("max_cudagraph_capture_size", "cudagraph_capture_sizes")
WHOLE = ("the model's maximum", "--max-model-len is not given")
LONGEST = ("the longest that fits", "no more than the model's maximum")
NO_GRAPHS = ("none", "0")
ENV = {
    **common.ENV,
    "VLLM_ATTENTION_BACKEND": "",
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "graphs_charged",
    "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE": "own_workspace",
    "VLLM_CPU_KVCACHE_SPACE": "other_device",
    ENGINE.stages: "",
    "VLLM_USE_V1": "",
    "VLLM_USE_V2_MODEL_RUNNER": "model_runner",
}


def finish(reading: CommandReading) -> None:
    common.model(reading)
    common.quantization(reading, ENGINE)
    _kernels(reading)
    _context(reading)
    _lora(reading)
    _limits(reading)
    _graphs(reading)
    _speculative(reading)
    _variables(reading)
    common.stages(reading, ENGINE.stages)
    _of_this_node(reading)
    many = _prefill_context(reading)
    reading.devices = Ranks.of(reading.settings).cards * many


def _kernels(reading: CommandReading) -> None:
    """Read --quantization awq: AWQ's own kernels (awq_marlin.py, override_quantization_method)."""
    said = reading.last("quantization")
    if said is not None and str(said[1]).lower() == PLAIN_AWQ:
        reading.settings["quantization"] = PLAIN_AWQ
        reading.ignored.remove(said[0])


def _context(reading: CommandReading) -> None:
    """Read --max-model-len; -1 and auto mean the longest that fits (vllm/config/model.py)."""
    said = reading.last("context")
    if said is None:
        return
    name, text = said
    if str(text).strip().lower() in ("-1", "auto"):
        reading.longest = True
        reading.warn(sentence("longest_that_fits", flag=name, value=text))
    else:
        reading.settings["context"] = reading.read("count", name, text)


def _lora(reading: CommandReading) -> None:
    """Read LoRA slots: only with --enable-lora; 1 of rank 16 by default (vllm/config/lora.py)."""
    on = reading.last("lora")
    if on is not None and not on[1]:
        reading.ignored.append(on[0])
    for what, setting, default in (("loras", "max_loras", 1), ("lora_rank", "max_lora_rank", 16)):
        said = reading.last(what)
        value = default if said is None else reading.read("whole", *said)
        if on is not None and on[1]:
            reading.settings[setting] = value
        elif said is not None:
            reading.ignored.append(said[0])


def _limits(reading: CommandReading) -> None:
    """Read images per request: {"image": 2}, {"image": {"count": 2, "width": 512, "height": 512}}
    or, before 0.9, image=2."""
    if reading.last("limits") is None:
        return
    name = reading.said["limits"][-1][0]
    limits = _old_limits(reading) or reading.merged("limits")
    for kind, limit in limits.items():
        options: dict[str, Any] = limit if isinstance(limit, dict) else {"count": limit}
        number = reading.read("whole", name, options.get("count", 999))
        if kind != "image":
            reading.ignored.append(name)
            if number:
                reading.warn(sentence("items_by_default", flag=name, kind=kind))
            continue
        reading.settings["images"] = min(int(number), 10_000)
        if "width" in options and "height" in options:
            width, height = (reading.read("whole", name, options[k]) for k in ("width", "height"))
            reading.settings["image_size"] = f"{width}x{height}"


def _old_limits(reading: CommandReading) -> dict[str, str]:
    text = reading.said["limits"][-1][1]
    if not isinstance(text, str) or "=" not in text or text.lstrip().startswith("{"):
        return {}
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


def _graphs(reading: CommandReading) -> None:
    _optimization(reading)
    captures = reading.last("captures")
    if captures is not None:
        _captures(reading, captures[0], captures[1])
    for key, value in _compilation(reading).items():
        name = "--compilation-config"
        if key == "cudagraph_mode" and str(value).lower() in NO_GRAPHS:
            reading.settings["enforce_eager"] = True
        elif key == GRAPH_KEYS[0] and value is not None:
            reading.settings[key] = reading.read("whole", name, value)
        elif key == GRAPH_KEYS[1] and value is not None:
            _captures(reading, name, value)
        elif key == "cudagraph_mode":
            pieces = str(value).lower() == "piecewise"
            said = "graphs_in_pieces" if pieces else "default_graph_mode"
            reading.warn(sentence(said, flag=name, value=value))
            reading.unmodelled.extend([PIECEWISE] * pieces)
        else:
            reading.ignored.append(f"{name}.{key}"[:120])


def _compilation(reading: CommandReading) -> dict[str, Any]:
    """Return the compilation config: JSON, or (until 0.11) a bare level, -O 3, which is ignored."""
    values = reading.said.get("compilation", [])
    levels = [v for v in values if isinstance(v[1], str) and v[1].strip().isdigit()]
    if levels:
        reading.ignored.append(levels[-1][0])
        reading.said["compilation"] = [v for v in values if v not in levels]
    return reading.merged("compilation")


def _optimization(reading: CommandReading) -> None:
    """Read -O (vllm/config/vllm.py): level 0 has no graphs; 1 has fewer than the default."""
    said = reading.last("optimization")
    if said is None:
        return
    level = str(said[1])
    if level == "0":
        reading.settings["enforce_eager"] = True
    elif level == "1":
        reading.warn(sentence("default_level", flag=said[0]))
        reading.unmodelled.append(PIECEWISE)
    elif level in ("2", "3"):
        reading.ignored.append(said[0])
    else:
        raise reading.wrong(said[0], level, sentence("value.level"))


def _captures(reading: CommandReading, name: str, sizes: object) -> None:
    """Read graph sizes, of which the largest counts; --cuda-graph-sizes N was the largest."""
    listed = sizes if isinstance(sizes, list) else [sizes]
    counts = [int(reading.read("whole", name, size)) for size in listed]
    if counts:
        reading.settings["max_cudagraph_capture_size"] = max(counts)


def _speculative(reading: CommandReading) -> None:
    config = reading.merged("speculative")
    for what in ("method", "model", "num_speculative_tokens"):
        said = reading.last(f"spec_{what}")
        if said is not None:
            config[what] = said[1]
    method = _method(reading, config) if config else None
    if method is None:
        return
    reading.settings["speculative_method"] = method
    _draft(reading, method, config)
    for key in sorted(config.keys() - {"method", "model", "num_speculative_tokens"}):
        reading.ignored.append(f"--speculative-config.{key}"[:120])


def _draft(reading: CommandReading, method: str, config: dict[str, Any]) -> None:
    name = "--speculative-config"
    if method in ("draft", "eagle", "eagle3"):
        if not config.get("model"):
            raise reading.wrong(name, method, sentence("value.draft"))
        reading.settings["draft_model"] = str(config["model"])
    tokens = config.get("num_speculative_tokens")
    if tokens is not None:
        number = reading.read("whole", f"{name}.num_speculative_tokens", tokens)
        reading.settings["num_speculative_tokens"] = number


def _method(reading: CommandReading, config: dict[str, Any]) -> str | None:
    """Return the speculative method (vllm/config/speculative.py); every *_mtp is mtp."""
    method, model = str(config.get("method") or "").lower(), str(config.get("model") or "")
    if model.strip("[]") == "ngram" or method in ("ngram", "ngram_gpu", "[ngram]"):
        return "ngram"
    if method == "mtp" or method.endswith("_mtp"):
        return "mtp"
    if not method and not model:
        reading.warn(sentence("speculation_unnamed"))
        return None
    if not method:
        reading.warn(sentence("speculation_whole"))
        return "draft"
    if method not in METHODS:
        reading.warn(sentence("speculation_by", method=method))
        reading.unmodelled.append("proposed_tokens")
    return METHODS.get(method)


def _variables(reading: CommandReading) -> None:
    backend = reading.program.env.get("VLLM_ATTENTION_BACKEND")
    if backend:
        reading.settings.setdefault("attention_backend", backend)
    if reading.program.env.get("VLLM_USE_V1") == "0":
        reading.warn(sentence("v1_alone"))


def _of_this_node(reading: CommandReading) -> None:
    """Read the data-parallel replicas on this machine; others share their experts."""
    flag = reading.last("data_local")
    if flag is None:
        return
    reading.settings["data_parallel_size"] = reading.read("whole", *flag)
    if reading.settings.get("enable_expert_parallel"):
        reason = sentence("flag.other_machines")
        reading.warn(why := sentence("not_modelled", name=flag[0], reason=reason))
        reading.stops.append(Obstacle("either", why))


def _prefill_context(reading: CommandReading) -> int:
    said = reading.last("prefill_context")
    if said is None:
        return 1
    many = max(1, int(reading.read("whole", *said)))
    if many > 1:
        reading.warn(sentence("one_device_prompt", flag=said[0], count=many))
    else:
        reading.ignored.append(said[0])
    return many


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    """vllm/engine/arg_utils.py: get_batch_defaults; vllm/config/cache.py and scheduler.py."""
    share = rules(_release(reading)).utilization
    unless: list[tuple[str, Value, str]] = [
        ("context", *(LONGEST if reading.longest else WHOLE)),
        ("gpu_memory_utilization", share, "of the whole device"),
        ("max_num_batched_tokens", "2048, 8192 or 16384", "by the size of the device"),
        ("max_num_seqs", "256 or 1024", "by the size of the device"),
        ("enable_prefix_caching", True, "blocks of equal prefixes are shared"),
        ("enforce_eager", False, "CUDA graphs are captured"),
        ("kv_cache_dtype", "auto", "the model's own"),
        ("block_size", 16, "tokens; more where states are mixed with attention"),
    ]
    return tuple(row for row in unless if row[0] not in reading.settings)


def _release(reading: CommandReading) -> Version:
    """Return the release in the image's tag; the newest if it has none."""
    parts = (reading.program.version or "").split(".")
    numbers = tuple(int(p) for p in parts[:2] if p.isdigit())
    return numbers if len(numbers) == 2 else ENGINE.newest


DIALECT = Dialect(
    engine=ENGINE.name, flags=FLAGS, finish=finish, defaults=defaults, dotted=True, env=ENV
)
