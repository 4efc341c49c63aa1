"""Parser of llama-server and llama-cli command lines into settings, and of ik_llama.cpp's flags of
the same names.

`--ctx-size` is the tokens of all slots together: a slot has its share, unless the cache is unified,
as it is by default if the user leaves the number of slots open (common/arg.cpp, tools/server).
"""

import re

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Value, flags
from weighbridge.engines.llama_cpp import ENGINE
from weighbridge.engines.llama_cpp.overrides import ALL, cards, of_first
from weighbridge.engines.llama_cpp.settings import LlamaCpp

# common/arg.cpp of llama.cpp as vendored in llama-cpp-python 0.3.36, and in 0.3.16 and 0.3.9 for
# flags that are gone; common/common.cpp of ik_llama.cpp at 8337e4cd3. The flags of its other
# programs (imatrix, perplexity, ...) are left out.

TABLE = text_beside(__file__, "flags.txt")
FLAGS = flags(TABLE, LlamaCpp)


TRUTH = {"on": "on", "1": "on", "true": "on", "enabled": "on"}
FALSEHOOD = {"off": "off", "0": "off", "false": "off", "disabled": "off"}
AUTO = {"auto": "auto", "-1": "auto"}
FLASH = TRUTH | FALSEHOOD | AUTO
OVERRIDES = ("-ot", "--override-tensor")
SPECULATION = {"draft-simple": "draft", "draft-mtp": "mtp", "draft-eagle3": "eagle3", "none": ""}
OF_FILES = "gguf"  # in names of repositories with GGUF files
ENV = {
    "LLAMA_ARG_MODEL": "give_flag",
    "LLAMA_ARG_": "variable_flags",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "host_when_full",
    "GGML_CUDA_FORCE_CUBLAS": "unpacked_products",
    "GGML_CUDA_NO_PINNED": "not_pinned",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
}


def finish(reading: CommandReading) -> None:
    reading.settings["program"] = "server" if reading.program.name.endswith("server") else "cli"
    _model(reading)
    _layers(reading)
    _experts(reading)
    _flash(reading)
    _split(reading)
    _load_mode(reading)
    _context(reading)
    _speculation(reading)
    for name, _ in reading.every("preset"):
        reading.warn(sentence("preset_unread", flag=name))


def _model(reading: CommandReading) -> None:
    """Set the model: a file, a URL, or a repository with its quantization or its file."""
    for what in ("model", "url"):
        if reading.model is None and (said := reading.last(what)) is not None:
            reading.model = str(said[1])
    if reading.model is None and (repo := reading.last("repo")) is not None:
        file = reading.last("file")
        reading.model = _in_repository(str(repo[1]), None if file is None else str(file[1]))
        if reading.last("no_projector") is None and "mmproj" not in reading.settings:
            reading.settings["mmproj_auto"] = True
    if reading.model is None and (docker := reading.last("docker")) is not None:
        raise UnsupportedError(sentence("docker_flag", flag=docker[0], value=docker[1]))
    for word in reading.words:
        reading.warn(sentence("no_flag", word=word))
    reading.ignored += [
        said[0] for said in (reading.last("served"), reading.last("no_projector")) if said
    ]


def _in_repository(repo: str, file: str | None) -> str:
    """Return the repository and file, or the repository as typed: common/download.cpp takes its
    Q4_K_M, else its first file. A name without "gguf" gets `:Q4_K_M`, since no other file in it
    would load."""
    if file is not None:
        return f"{repo.partition(':')[0]}/{file}"
    return repo if ":" in repo or OF_FILES in repo.lower() else f"{repo}:Q4_K_M"


def _layers(reading: CommandReading) -> None:
    """Set n_gpu_layers: unset for auto (-1, as many as --fit places), -1 for all (-2) or --fit
    off."""
    said, fit = reading.last("layers"), reading.last("fit")
    if fit is not None and str(fit[1]).lower() in FALSEHOOD:
        reading.settings["n_gpu_layers"] = -1
    elif fit is not None:
        reading.ignored.append(fit[0])
    if said is None:
        return
    text = str(said[1]).lower()
    if text in ("auto", "-1"):
        reading.ignored.append(said[0])
        return
    number = -1 if text == "all" else int(reading.read("whole", *said))
    reading.settings["n_gpu_layers"] = max(number, -1)


def _experts(reading: CommandReading) -> None:
    """Set override_tensor and n_cpu_moe from flags whose order counts. After all patterns,
    --n-cpu-moe takes what they leave; before one, llama.cpp makes it a pattern too. ik_llama.cpp
    applies it last."""
    said = reading.every("placed")
    last = max((i for i, (name, _) in enumerate(said) if name in OVERRIDES), default=-1)
    ordered = reading.dialect.engine == ENGINE.name
    patterns: list[str] = []
    behind: list[int] = []
    for i, (name, value) in enumerate(said):
        if name in OVERRIDES:
            patterns.append(str(value))
            continue
        count = ALL if value is True else int(reading.read("whole", name, value))
        if not ordered or i > last:
            behind.append(count)
        elif count > 0:
            patterns.append(of_first(count))
    if behind:
        reading.settings["n_cpu_moe"] = max(behind)
    if patterns:
        text = ",".join(patterns)
        reading.settings["override_tensor"] = text
        named = cards(text.split(","))
        reading.devices = named if named > 1 else None


def _flash(reading: CommandReading) -> None:
    """Set flash_attn; -fa without a value, a switch until 2025, is on."""
    said = reading.last("flash")
    if reading.last("no_flash") is not None:
        reading.settings["flash_attn"] = "off"
    elif said is not None:
        text = str(said[1]).lower() or "on"
        if text not in FLASH:
            raise reading.wrong(said[0], said[1], sentence("value.flash"))
        reading.settings["flash_attn"] = FLASH[text]


def _split(reading: CommandReading) -> None:
    mode, shares, listed = reading.last("split"), reading.last("shares"), reading.last("devices")
    if mode is not None and mode[1] in ("none", "layer", "row"):
        reading.settings["split_mode"] = str(mode[1])
    elif mode is not None and mode[1] in ("tensor", "graph", "attn"):
        reading.warn(sentence("layers_shared", flag=mode[0], mode=mode[1]))
    elif mode is not None:
        raise reading.wrong(mode[0], mode[1], sentence("value.split"))
    if shares is not None:
        parts = [
            str(reading.read("number", shares[0], p)) for p in re.split("[,/]+", str(shares[1]))
        ]
        reading.settings["tensor_split"] = ",".join(parts)
        reading.devices = sum(float(p) > 0 for p in parts)
    if listed is not None:
        _listed(reading, listed[0], str(listed[1]))
    if reading.settings.get("split_mode") == "none":
        reading.devices = 1


def _listed(reading: CommandReading, name: str, text: str) -> None:
    if text == "none":
        reading.settings["n_gpu_layers"] = 0
        return
    reading.devices = len(text.split(","))
    reading.ignored.append(name)


def _load_mode(reading: CommandReading) -> None:
    said = reading.last("load_mode")
    if said is not None:
        reading.settings["no_mmap"] = said[1] in ("none", "mlock", "dio")


def _context(reading: CommandReading) -> None:
    """Set the slots and the context per request; `-c 0` is the model's maximum."""
    said, slots = reading.last("context"), reading.last("slots")
    many = -1 if slots is None else int(reading.read("whole", *slots))
    if many > 0:
        reading.settings["parallel"] = many
    elif slots is not None:
        reading.ignored.append(slots[0])
    whole = 0 if said is None else int(reading.read("whole", *said))
    shared = reading.settings.get("kv_unified", many <= 0)
    if whole > 0:
        reading.settings["context"] = whole if shared or many <= 1 else max(1, whole // many)
    elif said is not None:
        reading.ignored.append(said[0])
    if whole <= 0 and many > 1 and not shared:
        reading.warn(sentence("slots_share", count=many))


def _speculation(reading: CommandReading) -> None:
    for name, text in reading.every("speculation"):
        for said in str(text).split(","):
            kind = "ngram" if said.startswith("ngram") else SPECULATION.get(said, "other")
            if kind in ("draft", "mtp", "ngram"):
                reading.settings["speculative_method"] = kind
            elif kind:
                reading.warn(sentence("value_not_modelled", flag=name, value=said))
                reading.unmodelled.append("proposed_tokens")
            else:
                reading.ignored.append(name)


def defaults(
    reading: CommandReading, *, slots: int = 4, flash: str = "auto", latents: int | None = None
) -> tuple[tuple[str, Value, str], ...]:
    """Return (setting, default, remark) of what the user left unset; a server has `slots` slots.
    Source: common/common.h (common_params), tools/server."""
    server = reading.settings["program"] == "server"
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
    return tuple(row for row in unless if row[0] not in reading.settings)


def runs(image: str, words: list[str]) -> tuple[list[str], str]:
    """Return the arguments and the program of a Docker image: `full` takes --server or --run first,
    `light` is llama-cli (docs/docker.md)."""
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
