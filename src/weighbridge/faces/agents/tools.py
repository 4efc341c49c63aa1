"""The tools that agents see: the purpose of each, and the schema of its arguments.

Settings come from the tables that the command line and requests share (weighbridge.settings), so a
tool takes what a flag takes. A schema states the plainest form of a value, which every client can
send; other forms that the command line reads ("32K" for a count) are accepted too.
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.answers.questions.fit.request import MAX
from weighbridge.answers.questions.requests import BESIDE, OF_PIPELINES
from weighbridge.base.records import NamedTuple
from weighbridge.machines.accelerators.listing import SORTS, TYPES
from weighbridge.memory.report.fit import SMALLEST
from weighbridge.settings.setting import MOST, Setting
from weighbridge.workload import COMMON, FIT, TABLES, engines_of

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
PLAINEST: Mapping[str, Schema] = {  # kind of a setting -> the JSON type of its plainest form
    **dict.fromkeys(("word", "version", "release", "image", "split"), TEXT),
    **dict.fromkeys(("size", "relative", "memory"), TEXT),
    "count": {"type": "integer"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "words": {"type": "array", "items": TEXT},
}
SLOW = ("exact",)  # runs torch for minutes: only the command line has it
FORMS = ("markdown", "json")
DETAILS = ("short", "full")


class Tool(NamedTuple):
    """A tool: its name, description and arguments. Agents read `schema` in every session; `more`
    are further arguments that the tool accepts. `sources`: whether it may read the Hub, files and
    addresses."""

    name: str
    title: str
    description: str
    schema: Schema
    sources: bool = True
    more: Mapping[str, Schema] = {}

    @property
    def known(self) -> Mapping[str, Schema]:
        """Return the schema of every argument that the tool accepts."""
        return {**self.schema["properties"], **self.more}


def setting_schema(setting: Setting[Any]) -> Schema:
    """Return the JSON schema of one setting's values: type, bounds, choices and description."""
    schema = dict(PLAINEST[setting.kind.name])
    if setting.choices:
        schema["enum"] = list(setting.choices)
    if schema["type"] in ("integer", "number"):
        schema["minimum"] = int(setting.least)
        if setting.most != MOST:
            schema["maximum"] = int(setting.most)
    having = engines_of(setting)
    theirs = f" ({', '.join(having)})" if having else ""
    return {**schema, "description": f"{setting.help}{theirs}"}


def _choice_schema(choices: tuple[str, ...] | list[str], description: str) -> Schema:
    return {**TEXT, "enum": list(choices), "description": description}


def _text_schema(text: str) -> Schema:
    return {**TEXT, "description": text}


MODEL = _text_schema(
    "Catalogue name (llama-3.1-8b), Hub id or URL, org/name:Q4_K_M, absolute path of a folder or"
    " file, a bare size (7B), or the text of a config.json."
)
REVISION = _text_schema("Branch, tag or commit on the Hub.")
COMMAND = _text_schema(
    "A launch line to judge as it stands, instead of `model`: vllm serve ..., llama-server ..."
)
FORM: Mapping[str, Schema] = {
    "response_format": _choice_schema(FORMS, "Default: markdown, a few lines."),
}
OUTPUT: Mapping[str, Schema] = {
    **FORM,
    "detail": _choice_schema(DETAILS, "Default: short. full: every component, phase and device."),
}
OF_FIT: Mapping[str, Schema] = {
    "for": _text_schema(
        "What the verdict is about: load, infer (default), lora, qlora, train, grpo, dpo..."
    ),
    "max": _choice_schema(list(MAX), "Find the largest that fits, of this."),
    "smallest": _choice_schema(SMALLEST, "Find the smallest of these that is enough."),
    "explain_oom": _text_schema(
        "Text of an out-of-memory message or log: says what ran out, why, and what to change;"
        " model, for and settings are then what ran, if known."
    ),
}
OF_INFER: Mapping[str, Schema] = {
    "together": {
        "type": "array",
        "items": TEXT,
        "description": "Further models on that card at once: whether all fit, and what is left.",
    },
}
OWN: Mapping[str, Mapping[str, Schema]] = {"fit": OF_FIT, "infer": OF_INFER}
PATTERN = "Part of a name: "
TASKS = tuple(task for task in COMMON if task not in OF_PIPELINES.values())


def settings_of(task: str) -> dict[str, Schema]:
    """Return the schema of every setting that the tool of a task takes."""
    table = TABLES[task]
    return {name: setting_schema(table[name]) for name in table if name not in SLOW}


def of_pipelines(task: str) -> dict[str, Schema]:
    """Return the schemas of the settings that a tool takes only for a pipeline of pictures or
    video."""
    asked = OF_PIPELINES.get(task)
    more = {} if asked is None else settings_of(asked)
    return {
        name: {**schema, "description": f"{schema['description']} (pipelines)"}
        for name, schema in more.items()
        if name not in TABLES[task]
    }


def _object_schema(
    properties: Mapping[str, Schema], *required: str, others: bool = False
) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return {**schema, "additionalProperties": others}


def _weigh_schemas() -> dict[str, Schema]:
    """Return the schemas of the arguments of the tool `weigh`."""
    every = {**settings_of("infer"), **settings_of("train")}
    return {
        "text": _text_schema("The file, command, log or issue, as it stands."),
        "model": _text_schema("The model, where the text does not name it."),
        "kind": _text_schema(
            "What the text is, where that is not told by itself: axolotl, compose..."
        ),
        "fix": {"type": "boolean", "description": "Also the change that makes it fit, as a diff."},
        **{name: every[name] for name in ("gpu", "gpu_memory", "ram")},
        **OUTPUT,
    }


def _task_tool(name: str, title: str, description: str, *required: str) -> Tool:
    """Return a tool about a model: its schema has the common settings, and it accepts the others
    too."""
    beside = {"revision": REVISION, "command": COMMAND}
    described = {key: beside[key] for key in BESIDE[name]}
    of_task = OWN.get(name, {})
    every = settings_of(name)
    common = {key: every[key] for key in COMMON[name] if key in every}
    others = {key: schema for key, schema in every.items() if key not in common}
    others |= of_pipelines(name)
    schema = _object_schema(
        {"model": MODEL, **of_task, **common, **described, **OUTPUT}, *required, others=True
    )
    return Tool(name, title, description, schema, more=others)


def _settings_schemas() -> dict[str, Schema]:
    """Return the schemas of the arguments of the tool `settings`."""
    return {
        "task": _choice_schema(TASKS, "The tool that takes them."),
        "pattern": _text_schema("Part of a name or of its sentence: offload, lora, vllm."),
    }


def _gpu_schemas() -> dict[str, Schema]:
    """Return the schemas of the arguments that narrow the list of accelerators."""
    flags = (*TYPES, "nvlink")
    return {
        "pattern": _text_schema(f"{PATTERN}4090, h100, MI300X, or a cloud's machine."),
        **{
            name: {"type": "boolean", "description": f"Only those that have {name}."}
            for name in flags
        },
        "min_memory": _text_schema("Only those sold with so much: 24GiB."),
        "vendor": _text_schema("Only those of a maker: nvidia, amd, apple, intel..."),
        "sort": _choice_schema(list(SORTS), "Default: as in the catalogue."),
    }


def _model_schemas() -> dict[str, Schema]:
    """Return the schemas of the arguments that narrow the list of models, or rank them for a
    card."""
    shared = ("gpu", "gpu_memory", "engine", "quantization")
    return {
        "pattern": _text_schema(f"{PATTERN}qwen3, llama."),
        **{name: setting_schema(FIT[name]) for name in shared},
        "for": OF_FIT["for"],
        "min_context": {
            "type": "integer",
            "minimum": 1,
            "description": "Only with a context of at least so many tokens.",
        },
    }


def _weigh_tool() -> Tool:
    """Return the tool `weigh`, which takes a file, a command or an issue as text."""
    return Tool(
        "weigh",
        "A file or text that starts a run",
        "Reads what people have: axolotl and other training configs, compose files, manifests,"
        " launch scripts, logs, whole issues. Says what was understood and what was not, the"
        " memory, the verdict for `gpu`, and with `fix` a diff that makes the file fit.",
        _object_schema(_weigh_schemas(), "text"),
    )


def _infer_tool() -> Tool:
    """Return the tool `infer`, which takes models and pipelines of pictures."""
    return _task_tool(
        "infer",
        "Memory of serving a model",
        "GPU memory of serving a model with transformers, vLLM, SGLang, llama.cpp, Ollama or"
        " mlx-lm at a context length and a number of requests: peak, verdict for `gpu`,"
        " launch line, room for more. `command` judges a launch line as it stands. A pipeline"
        " of pictures or video (flux.1-dev, wan2.2-t2v-a14b) is answered stage by stage, with"
        " size, frames, offload, vae_tiling. The tool settings lists further arguments.",
    )


def tools() -> tuple[Tool, ...]:
    """Return all tools, the one for the most frequent question first."""
    return (
        _task_tool(
            "fit",
            "Does it fit my GPU?",
            "Says whether a model fits an accelerator for loading, inference, LoRA, QLoRA and full"
            " training, by how much, and the cheapest change that would make it fit. Also finds the"
            " longest context, the most users, or the smallest GPU (max, smallest), and why a run"
            " was out of memory (explain_oom). Without gpu it is about this machine's own. Start"
            " here when no engine or method is settled. The tool settings lists further arguments.",
        ),
        _infer_tool(),
        _task_tool(
            "train",
            "Memory of fine-tuning or training",
            "GPU memory of training a model: full, LoRA, QLoRA or DoRA, by batch, sequence length,"
            " optimizer, checkpointing and sharding (DDP, ZeRO, FSDP): peak, verdict for `gpu`,"
            " what would make it fit. Learning from rewards and preferences, too (method grpo, ppo,"
            " dpo; framework trl, verl, openrlhf), with the engine that writes. Pipelines of"
            " pictures (size, blocks_to_swap). The tool settings lists further arguments.",
            "model",
        ),
        _task_tool(
            "load",
            "Memory of the weights",
            "Size of a model's weights in every format (bfloat16, nf4, GGUF, GPTQ, FP8...),"
            " download size, and memory of loading it. Serving and training need more: ask infer or"
            " train. The tool settings lists further arguments.",
            "model",
        ),
        _weigh_tool(),
        Tool(
            "settings",
            "Further arguments of a tool",
            "Arguments that fit, infer, train and load take beside those of their schemas, with"
            " values and a sentence each: flags of engines, offloading, adapters, optimizers.",
            _object_schema({**_settings_schemas(), **FORM}, "task"),
            sources=False,
        ),
        Tool(
            "gpus",
            "List of accelerators",
            "Accelerators and clouds' machines, with the memory that a process can really use.",
            _object_schema({**_gpu_schemas(), **FORM}),
            sources=False,
        ),
        Tool(
            "models",
            "List of models",
            "Models that are answered without a network. With gpu: which of them fit it, those that"
            " people choose first, in which format, how long a context (this takes some seconds).",
            _object_schema({**_model_schemas(), **FORM}),
            sources=False,
        ),
    )
