"""The page's form, made from the tables of settings: the settings of each tab, and their known
values.

A setting is relevant if its `engines` contain the engine (empty: every engine) and one of its
`when` holds: {"method": ["lora"]} means "the method is lora", an empty list "the user set it".
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from weighbridge.answers.questions.fit.request import OF_PACKED
from weighbridge.base._version import __version__
from weighbridge.base.records import NamedTuple
from weighbridge.base.words import words_in
from weighbridge.engines.table import ENGINES, written
from weighbridge.faces.view.parts import NAMES as PARTS
from weighbridge.faces.view.parts import ROLES
from weighbridge.faces.web import filters
from weighbridge.machines.accelerators.names import spellings
from weighbridge.machines.accelerators.parts import instances, parts
from weighbridge.models import catalogue
from weighbridge.models.catalogue import everyday, listing, pipelines
from weighbridge.pictures.request import PROGRAMS_OF
from weighbridge.settings.kinds import COUNT, NUMBER, WHOLE
from weighbridge.settings.setting import MOST, Setting, Settings, fields
from weighbridge.workload import (
    FIT,
    FSDP,
    INFER,
    LOAD,
    PICTURE,
    PICTURE_TRAINING,
    TRAIN,
    TUNE,
    Table,
    engines_of,
)
from weighbridge.workload.consistency import OF_ADAPTERS, OF_ZERO
from weighbridge.workload.train import (
    LEARNS,
    METHOD_SETTINGS,
    OF_LEARNING,
    OF_REWARDS,
    PROMPTS,
    REWARDS,
    VALUED,
)

When = Mapping[str, list[str]]
SPELLED: Mapping[str, str] = {  # word of a setting's name -> how labels spell it
    "cuda": "CUDA",
    "gpu": "GPU",
    "cpu": "CPU",
    "lora": "LoRA",
    "zero": "ZeRO",
    "kv": "KV",
    "moe": "MoE",
    "mamba": "Mamba",
    "dp": "DP",
    "ssm": "SSM",
}


class FormTab(NamedTuple):
    """A tab with a form. `first` names the settings on top, in their order, separated by blanks."""

    table: Table
    first: str


DRAWN = ("part.", "phase.", "verdict.", "margin.")  # keys of sentences that answers use
TITLES = ("tab.", "section.")  # keys of titles, which the form has in `label` already
ADAPTERS: When = {"method": [x for x in TRAIN["method"].choices if x not in ("full", *PROMPTS)]}
PACKED: When = {"method": ["qlora"]}
ZERO: When = {"shard": ["zero1", "zero2", "zero3"], "framework": ["deepspeed"]}
LEARNING: When = {"method": list(LEARNS)}
WRITING: When = {"method": list(REWARDS)}  # methods that generate answers while they train
OF_TRAINING: Mapping[str, When] = {  # setting -> when it applies to training
    **dict.fromkeys(OF_ADAPTERS, ADAPTERS),
    **dict.fromkeys(OF_PACKED, PACKED),
    **dict.fromkeys(OF_ZERO, ZERO),
    **{name: {"method": list(methods)} for name, methods in METHOD_SETTINGS.items()},
    **dict.fromkeys(OF_LEARNING, LEARNING),
    **dict.fromkeys(OF_REWARDS, WRITING),
    "critic": {"method": list(VALUED)},
    "cpu_ram_efficient_loading": {"shard": list(FSDP)},
    "accelerate_version": {"shard": list(FSDP)},
    "compile": {"framework": ["torchtune", "torchtitan"]},
}
OF_A_DEVICE: Mapping[str, When] = {"headroom": {"gpu": [], "gpu_memory": []}}
OF_SERVING: Mapping[str, When] = {
    "num_speculative_tokens": {"speculative_method": [], "draft_model": []},
    "max_lora_rank": {"max_loras": []},
}
OF_SHARDING: Mapping[str, When] = {
    name: OF_TRAINING[name] for name in (*OF_ZERO, "cpu_ram_efficient_loading")
}
GROUPED: When = {"offload": ["group-block", "group-leaf"]}
OF_PICTURES: Mapping[str, When] = {
    **{name: {"engine": list(having)} for name, having in PROGRAMS_OF.items()},
    "offload_stream": GROUPED,
}
LOW_RANK: When = {"method": ["lora", "dora", "loha", "lokr"]}
OF_PICTURE_TRAINING: Mapping[str, When] = {
    **dict.fromkeys(("lora_r", "lora_targets", "lora_dropout"), LOW_RANK),
    "lokr_factor": {"method": ["lokr"]},
}
PIPELINES = ("image", "train_image")  # tabs of pipelines, which make pictures and video
PICTURE_FORMATS = ("fp8", "nf4", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_S", "bnb-int8", "fp8+text=fp8")
WHEN: Mapping[str, Mapping[str, When]] = {  # tab -> setting -> when it applies
    "fit": OF_SHARDING,
    "infer": OF_SERVING,
    "train": OF_TRAINING,
    "image": OF_PICTURES,
    "train_image": OF_PICTURE_TRAINING,
}


def _with_fields(table: Table, *tables: type[Settings]) -> Table:
    return {**table, **{one.name: one for more in tables for one in fields(more).values()}}


TABS: Mapping[str, FormTab] = {
    "fit": FormTab(
        _with_fields(FIT, filters.SolvedFields, filters.AnswerFields),
        "gpu quantization context batch_size seq_len engine checkpointing for max",
    ),
    "load": FormTab(_with_fields(LOAD, filters.AnswerFields), "gpu quantization dtype"),
    "infer": FormTab(
        _with_fields(INFER, filters.ServedFields, filters.AnswerFields),
        "gpu quantization context engine batch_size max_num_seqs max_running_requests "
        "parallel kv_cache_dtype tensor_parallel_size",
    ),
    "train": FormTab(
        _with_fields(TRAIN, filters.AnswerFields),
        "gpu method seq_len batch_size lora_r checkpointing optimizer "
        "loss precision quantization shard",
    ),
    "image": FormTab(
        _with_fields(PICTURE, filters.AnswerFields),
        "gpu size quantization frames seconds batch_size offload vae_tiling engine vram_mode",
    ),
    "train_image": FormTab(
        _with_fields(PICTURE_TRAINING, filters.AnswerFields),
        "gpu method size frames batch_size lora_r framework checkpointing optimizer "
        "quantization blocks_to_swap",
    ),
}
OOM: Table = {  # settings of a run that ran out of memory, besides its message
    **{name: INFER[name] for name in ("gpu", "engine", "context")},
    **{name: TRAIN[name] for name in ("method", "seq_len", "batch_size")},
}
FILTERS: Mapping[str, type[Settings]] = {
    "compare": filters.NoFilters,
    "gpus": filters.GpuFilters,
    "models": filters.ModelFilters,
    "accuracy": filters.AccuracyFilters,
    "registry": filters.NoFilters,
}


@cache
def form(lang: str) -> dict[str, Any]:
    """Return everything that the page shows before its first ask, in the language `lang`."""
    from weighbridge.answers.remedies.formats import BITS
    from weighbridge.engines.weight_formats import listed
    from weighbridge.faces.charts.parts import STYLES
    from weighbridge.models.quantization.schemes import NAMES as FORMATS

    return {
        "tabs": [
            *(_tab_as_json(name, tab, lang) for name, tab in TABS.items()),
            *_other_tabs(lang),
        ],
        "models": list(_known_models()),
        "gpus": list(_known_cards()),
        "engines": [
            {
                "name": e.name,
                "newest": written(e.newest),
                "reads": listed(e.reading, FORMATS, e.newest, None),
            }
            for e in ENGINES.values()
        ],
        "launches": _launch_commands(),
        "parts": {name: key.removeprefix("part.") for name, key in PARTS.items()},
        "roles": [*ROLES],
        "version": __version__,
        "lang": lang,
        "styles": STYLES,
        "bits": dict(BITS),
        "words": _page_texts(lang),
    }


def _launch_commands() -> dict[str, list[str]]:
    """Return the first `words` of launch commands, and `snippets`, parts of other texts that are
    commands. Lines that start with a wrapper, a shell or Python are not listed: they are read as
    texts."""
    from weighbridge.engines.launch import programs

    snippets = [engine.snippet for engine in ENGINES.values() if engine.snippet]
    return {"words": sorted({*programs.PROGRAMS, *programs.NOT_YET}), "snippets": snippets}


def _page_texts(lang: str) -> dict[str, str]:
    """Return key -> text for the texts that the page shows, and those of answers that it draws."""
    screens = words_in(lang).sentences.items()
    taken = {key: text for key, text in screens if key.startswith(DRAWN)}
    page_words = words_in(lang, "page").sentences.items()
    return {**taken, **{key: text for key, text in page_words if not key.startswith(TITLES)}}


def _tab_as_json(name: str, tab: FormTab, lang: str) -> dict[str, Any]:
    """Return a tab with its sections in the order of the settings table, the first settings on
    top."""
    named = tab.first.split()
    first = [tab.table[one] for one in named if one in tab.table]
    sections: dict[str, list[Setting[Any]]] = {}
    for setting in tab.table.values():
        if setting.name not in named:
            sections.setdefault(setting.section, []).append(setting)
    others = [_section_as_json(one, name, lang) for one in sections.values()]
    return {
        "name": name,
        "label": words_in(lang, "page")(f"tab.{name}"),
        "sections": [_main_section(first, name, lang), *others],
    }


def _main_section(settings: list[Setting[Any]], tab: str, lang: str) -> dict[str, Any]:
    """Return the settings on top of a tab, as a section that does not fold."""
    return {
        "name": "Main",
        "label": words_in(lang, "page")("section.main"),
        "settings": [_setting_as_json(one, tab, lang) for one in settings],
    }


def _section_as_json(settings: list[Setting[Any]], tab: str, lang: str) -> dict[str, Any]:
    return {
        "name": settings[0].section,
        "label": section(settings[0], lang),
        "settings": [_setting_as_json(one, tab, lang) for one in settings],
    }


def _other_tabs(lang: str) -> Iterator[dict[str, Any]]:
    """Yield the tabs that estimate nothing: the error message, and the tables with filters of their
    rows."""
    yield _tab_as_json("oom", FormTab(OOM, " ".join(OOM)), lang)
    for name, declared in FILTERS.items():
        settings = list(fields(declared).values())
        yield {
            "name": name,
            "label": words_in(lang, "page")(f"tab.{name}"),
            "sections": [_main_section(settings, name, lang)] if settings else [],
        }


def _setting_as_json(setting: Setting[Any], tab: str, lang: str) -> dict[str, Any]:
    choices = setting.choices or (
        tuple(ENGINES) if setting.name == "engine" and tab != "accuracy" else ()
    )
    return {
        "name": setting.name,
        "label": label(setting, lang),
        "flag": setting.flag,
        "kind": setting.kind.name,
        "metavar": setting.kind.metavar,
        "help": meaning(setting, lang),
        "least": _bound_as_json(setting, setting.least),
        "most": None if setting.most == MOST else _bound_as_json(setting, setting.most),
        "choices": list(choices),
        "known": list(_known_values(setting, tab)),
        "default": setting.default,
        "slider": setting.slider
        and {"scale": "log", "least": setting.slider[0], "most": setting.slider[1]},
        # `fit` answers for training, too: a setting that training has applies with any engine
        "engines": [] if tab == "fit" and setting.name in TUNE else list(engines_of(setting)),
        "when": _relevance(setting.name, tab),
    }


def _bound_as_json(setting: Setting[Any], bound: float) -> float | int | None:
    if setting.kind not in (COUNT, WHOLE, NUMBER):
        return None
    return int(bound) if bound == int(bound) else bound


def _relevance(name: str, tab: str) -> When | None:
    if name in OF_A_DEVICE:
        return OF_A_DEVICE[name]
    return WHEN.get(tab, {}).get(name)


def _known_values(setting: Setting[Any], tab: str) -> Iterator[str]:
    """Yield suggested values of a setting, in addition to which the user may type any."""
    if setting.name == "quantization" and tab in PIPELINES:
        yield from PICTURE_FORMATS
    elif setting.name == "quantization":
        from weighbridge.models.quantization.schemes import NAMES as FORMATS

        yield from FORMATS
    elif setting.name == "optimizer":
        from weighbridge.training.optimizers import NAMES as OPTIMIZERS

        yield from OPTIMIZERS
    elif setting.name == "vendor":
        yield from sorted({part.vendor for part in parts().values()})
    elif tab == "accuracy" and setting.name in ("engine", "source"):
        from weighbridge.answers.bounds import accuracy

        yield from accuracy.names(setting.name)


def _known_models() -> Iterator[dict[str, Any]]:
    typed: dict[str, list[str]] = {}
    for name, meant in everyday.NAMES.items():
        typed.setdefault(meant, []).append(name)
    counts = catalogue.parameters()
    for entry in listing.ordered(catalogue.search("")):
        yield _model(entry.name, entry.repo_id, typed, counts)
    for name in pipelines.names():
        pipeline = pipelines.find(name)
        assert pipeline is not None
        if name in counts:
            spellings = {name: list(pipeline.names)}
            yield {**_model(name, pipeline.repo_id, spellings, counts), "makes": "pictures"}


def _model(
    name: str, repo_id: str, typed: Mapping[str, list[str]], counts: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "name": name,
        "label": repo_id,
        "spellings": typed.get(name, []),
        "parameters": counts[name],
    }


def _known_cards() -> Iterator[dict[str, Any]]:
    """Yield cards, then machines. Spellings have no blanks, hyphens or capitals: remove these from
    typed text before comparing it."""
    keys = spellings()
    for part in parts().values():
        yield {
            "name": part.id,
            "label": part.name,
            "spellings": keys[part.id],
            "memory": part.room.low,
            "count": 1,
        }
    for machine in instances().values():
        part = parts()[machine.part]
        yield {
            "name": machine.id,
            "label": f"{machine.name} ({machine.provider}): {machine.count} x {part.name}",
            "spellings": keys[machine.id],
            "memory": part.room.low,
            "count": machine.count,
        }


# Labels and meanings of settings. A label follows from the setting's name unless it has its own


def section(setting: Setting[Any], lang: str) -> str:
    """Return the title of the section that a setting is listed in."""
    owner = setting.owner
    return (lang == "zh" and owner.TITLE_ZH) or owner.TITLE


def label(setting: Setting[Any], lang: str) -> str:
    """Return the label of a setting in the language `lang`."""
    return setting.label_zh if lang == "zh" else setting.label or _label_from_name(setting.name)


def _label_from_name(name: str) -> str:
    """Return a setting's name as people write it: "KV unified" for kv_unified."""
    words = [SPELLED.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def meaning(setting: Setting[Any], lang: str) -> str:
    """Return the sentence that explains a setting in the language `lang`."""
    return setting.zh if lang == "zh" else setting.page or setting.help
