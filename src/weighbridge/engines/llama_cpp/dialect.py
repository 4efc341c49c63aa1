"""llama-server and llama-cli, and ik_llama.cpp's of the same names.

`--ctx-size` is of all slots together: a slot has its share, unless the cache is unified, which it
is by itself where the number of slots is left to the server (common/arg.cpp, tools/server).
"""

import re

from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Value
from weighbridge.engines.llama_cpp import ENGINE
from weighbridge.engines.llama_cpp.flags import FLAGS
from weighbridge.errors import UnsupportedError

ALL = 999  # layers: more than any model has, as the programs' own documentation writes it
TRUTH = {"on": "on", "1": "on", "true": "on", "enabled": "on"}
FALSEHOOD = {"off": "off", "0": "off", "false": "off", "disabled": "off"}
AUTO = {"auto": "auto", "-1": "auto"}
FLASH = TRUTH | FALSEHOOD | AUTO
SPECULATION = {"draft-simple": "draft", "draft-mtp": "mtp", "draft-eagle3": "eagle3", "none": ""}
# Patterns of --override-tensor that mean every expert of every layer, without their signs.
EXPERTS = re.compile(
    r"(blkd?)?(ffn)?((upgatedown|downgateup|gateupdown|updowngate|gatedownup)?)exps(weight)?"
)
HOST = re.compile(r"=(CPU|CUDA_Host)$")
ENV = {
    "LLAMA_ARG_MODEL": "give the flag instead",
    "LLAMA_ARG_": "variables that stand for flags are not read; give the flag instead",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "memory of the host is taken where the device is full",
    "GGML_CUDA_FORCE_CUBLAS": "products are made from unpacked weights",
    "GGML_CUDA_NO_PINNED": "memory of the host is not pinned",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
}


def finish(r: CommandReading) -> None:
    r.settings["program"] = "server" if r.program.name.endswith("server") else "cli"
    _model(r)
    _layers(r)
    _experts(r)
    _flash(r)
    _split(r)
    _load_mode(r)
    _context(r)
    _speculation(r)
    for name, _ in r.every("preset"):
        r.warn(f"{name} is not read: it names a model and settings of its own; give those")


def _model(r: CommandReading) -> None:
    """A file, a URL, or a repository with its quantization or its file."""
    for what in ("model", "url"):
        if r.model is None and (said := r.last(what)) is not None:
            r.model = str(said[1])
    if r.model is None and (repo := r.last("repo")) is not None:
        file = r.last("file")
        r.model = _in_repository(str(repo[1]), None if file is None else str(file[1]))
        if r.last("no_projector") is None and "mmproj" not in r.settings:
            r.warn(
                f"{repo[0]}: where the repository has a projector for images it is loaded too; "
                "it is counted only where --mmproj names it"
            )
    if r.model is None and (docker := r.last("docker")) is not None:
        raise UnsupportedError(
            f"{docker[0]} {docker[1]!r:.80}: not yet; name its file or repository"
        )
    for word in r.words:
        r.warn(f"{word!r:.80} belongs to no flag, and is left out")
    r.ignored += [said[0] for said in (r.last("served"), r.last("no_projector")) if said]


def _in_repository(repo: str, file: str | None) -> str:
    """common/download.cpp: Q4_K_M where no quantization is named."""
    if file is not None:
        return f"{repo.partition(':')[0]}/{file}"
    return repo if ":" in repo else f"{repo}:Q4_K_M"


def _layers(r: CommandReading) -> None:
    """auto (-1): as many as fit. all (-2): every layer."""
    said = r.last("layers")
    if said is None:
        return
    text = str(said[1]).lower()
    if text in ("auto", "-1"):
        r.ignored.append(said[0])
        return
    number = -1 if text == "all" else int(r.read("whole", *said))
    r.settings["n_gpu_layers"] = max(number, -1)


def _experts(r: CommandReading) -> None:
    on = r.last("all_experts")
    if on is not None:
        r.settings["n_cpu_moe"] = ALL
    for name, text in r.every("placed"):
        for pattern in str(text).split(","):
            if _every_expert(pattern):
                r.settings["n_cpu_moe"] = ALL
            else:
                r.warn(f"{name} {pattern:.80} is not modelled: give --n-cpu-moe if it is that")


def _every_expert(pattern: str) -> bool:
    """exps=CPU, .ffn_.*_exps.=CPU, blk\\.[0-9]+\\.ffn_(up|down|gate)_exps\\.weight=CPU, ..."""
    if not HOST.search(pattern):
        return False
    name = re.sub(r"\[0-9\]|\\d", "d", HOST.sub("", pattern))
    return EXPERTS.fullmatch(re.sub(r"[\\.*+()|_^$?]", "", name)) is not None


def _flash(r: CommandReading) -> None:
    """-fa alone was a switch until 2025, and is on."""
    said = r.last("flash")
    if r.last("no_flash") is not None:
        r.settings["flash_attn"] = "off"
    elif said is not None:
        text = str(said[1]).lower() or "on"
        if text not in FLASH:
            raise r.wrong(said[0], said[1], "on, off or auto")
        r.settings["flash_attn"] = FLASH[text]


def _split(r: CommandReading) -> None:
    mode, shares, listed = r.last("split"), r.last("shares"), r.last("devices")
    if mode is not None and mode[1] in ("none", "layer", "row"):
        r.settings["split_mode"] = str(mode[1])
    elif mode is not None and mode[1] in ("tensor", "graph", "attn"):
        r.warn(f"{mode[0]} {mode[1]} is not modelled: layers are shared out")
    elif mode is not None:
        raise r.wrong(mode[0], mode[1], "none, layer or row")
    if shares is not None:
        parts = [str(r.read("number", shares[0], p)) for p in re.split("[,/]+", str(shares[1]))]
        r.settings["tensor_split"] = ",".join(parts)
        r.devices = sum(float(p) > 0 for p in parts)
    if listed is not None:
        _listed(r, listed[0], str(listed[1]))
    if r.settings.get("split_mode") == "none":
        r.devices = 1


def _listed(r: CommandReading, name: str, text: str) -> None:
    if text == "none":
        r.settings["n_gpu_layers"] = 0
        return
    r.devices = len(text.split(","))
    r.ignored.append(name)


def _load_mode(r: CommandReading) -> None:
    said = r.last("load_mode")
    if said is not None:
        r.settings["no_mmap"] = said[1] in ("none", "mlock", "dio")


def _context(r: CommandReading) -> None:
    """0 is the model's maximum."""
    said, slots = r.last("context"), r.last("slots")
    many = -1 if slots is None else int(r.read("whole", *slots))
    if many > 0:
        r.settings["parallel"] = many
    elif slots is not None:
        r.ignored.append(slots[0])
    whole = 0 if said is None else int(r.read("whole", *said))
    shared = r.settings.get("kv_unified", many <= 0)
    if whole > 0:
        r.settings["context"] = whole if shared or many <= 1 else max(1, whole // many)
    elif said is not None:
        r.ignored.append(said[0])
    if whole <= 0 and many > 1 and not shared:
        r.warn(f"{many} slots share the model's maximum context; here each has it. Give --ctx-size")


def _speculation(r: CommandReading) -> None:
    for name, text in r.every("speculation"):
        for said in str(text).split(","):
            kind = "ngram" if said.startswith("ngram") else SPECULATION.get(said, "other")
            if kind in ("draft", "mtp", "ngram"):
                r.settings["speculative_method"] = kind
            elif kind:
                r.warn(f"{name} {said!r:.40} is not modelled")
            else:
                r.ignored.append(name)


def defaults(
    r: CommandReading, *, slots: int = 4, flash: str = "auto", latents: int | None = None
) -> tuple[tuple[str, Value, str], ...]:
    """common/common.h: common_params; tools/server: `slots` of one cache."""
    server = r.settings["program"] == "server"
    unless: list[tuple[str, Value, str]] = [
        ("context", "the model's maximum", "--ctx-size is not given"),
        ("n_gpu_layers", "as many as fit", "all where they fit"),
        ("parallel", slots if server else 1, "slots"),
        ("n_batch", 2048, "tokens"),
        ("ubatch_size", 512, "tokens"),
        ("flash_attn", flash, "on where the kernels can"),
        ("cache_type_k", "f16", "whatever the model's dtype is"),
        ("cache_type_v", "f16", "whatever the model's dtype is"),
    ]
    if server:
        unless.append(("cache_ram", 8192, "MiB of host memory for prompts"))
    if latents is not None:
        unless.append(("mla_attn", latents, "latents are used as they are"))
    return tuple(row for row in unless if row[0] not in r.settings)


def runs(image: str, words: list[str]) -> tuple[list[str], str]:
    """docs/docker.md: `full` takes --server or --run first, `light` is llama-cli."""
    tag = image.rpartition(":")[2]
    if words[:1] in (["--server"], ["-s"]) and tag.startswith("full"):
        return words[1:], "llama-server"
    if words[:1] in (["--run"], ["-r"]) and tag.startswith("full"):
        return words[1:], "llama-cli"
    return words, "llama-cli" if tag.startswith("light") else "llama-server"


DIALECT = Dialect(
    engine=ENGINE.name,
    flags=FLAGS,
    finish=finish,
    defaults=defaults,
    argparse=False,
    optional=frozenset(FLASH),
    env=ENV,
    runs=runs,
)
