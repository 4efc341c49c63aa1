"""Write src/weighbridge/models/arch/defaults.json: defaults and aliases of transformers' configs.

Run with transformers installed: `python tools/generate_defaults.py`. Only values that can decide
which tensors there are (whole numbers, truths, words, lists of them), of the model types in our
table and of the sub-configs that these name.
"""

import dataclasses
import json
import re
from pathlib import Path

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from weighbridge.models.arch.model_types import index

TARGET = Path(__file__).parent.parent / "src/weighbridge/models/arch/defaults.json"
NOISE = re.compile(
    r"(_token_id|_token_index|_token$|dropout|initializer|_eps|_epsilon|^output_(?!channels|dim|proj)|^return_dict|_coef$|_range$|^torch|^dtype|"
    r"^pruned|^chunk_size_feed|^bos_|^eos_|^pad_|^sep_|^problem_type|^use_cache|^transformers_|^gradient|"
    r"^id2label|^label2id|^is_composition|^attn_impl|^rope_|^ctc_|^mask_(?!input)|^mask_time|_loss|_prob$|_drop$|^scale_attn)"
)
FACTOR = re.compile(r"ratio|factor|init_value|multiplier|expand")  # floats that decide a shape

# Names that __post_init__ reads and attribute_map does not list.
OLD_NAMES = {"bloom": {"n_embed": "hidden_size"}, "falcon": {"n_embed": "hidden_size"}}


def default_of(field):
    value = field.default
    if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    return value


def plain(value):
    if isinstance(value, bool | int | str):
        return True
    if isinstance(value, list | tuple):
        return all(plain(v) for v in value)
    return False


def sub_defaults(config_class):
    """What a nested config is where it is absent, or says no model type."""
    found = {}
    for name, spec in getattr(config_class, "sub_configs_defaults", {}).items():
        given = {k: v for k, v in spec.init_kwargs.items() if plain(v) and not NOISE.search(k)}
        if given or not getattr(spec.config_class, "model_type", ""):
            found[name] = {**given, "model_type": spec.model_type}
    return found


def describe(config_class):
    defaults = {}
    for field in dataclasses.fields(config_class) if dataclasses.is_dataclass(config_class) else ():
        value = default_of(field)
        wanted = plain(value) or (isinstance(value, float) and FACTOR.search(field.name))
        if wanted and not NOISE.search(field.name):
            defaults[field.name] = list(value) if isinstance(value, tuple) else value
    subs = {
        name: sub.model_type
        for name, sub in getattr(config_class, "sub_configs", {}).items()
        if getattr(sub, "model_type", "")
    }
    if subs:
        defaults["sub_configs"] = subs  # read as this model type whatever they say
    if absent := sub_defaults(config_class):
        defaults["sub_defaults"] = absent
    aliases = {}
    old = OLD_NAMES.get(config_class.model_type, {})
    for alias, name in {**getattr(config_class, "attribute_map", {}), **old}.items():
        aliases.setdefault(name, []).append(alias)  # both ways: a head may ask for the common name
        aliases.setdefault(alias, []).append(name)
    return {"defaults": defaults, "aliases": aliases}


def below(config_class):
    """The classes of its nested configs and of theirs, also under one that names no model type."""
    for sub in getattr(config_class, "sub_configs", {}).values():
        if hasattr(sub, "model_type"):
            yield sub
            yield from below(sub)


def classes():
    found = {}
    for model_type in CONFIG_MAPPING:
        try:
            found[model_type] = CONFIG_MAPPING[model_type]
        except Exception as error:
            print(f"skipped {model_type}: {error}")
    for config_class in list(found.values()):
        for sub in below(config_class):
            if sub.model_type:
                found.setdefault(sub.model_type, sub)
    return found


def main():
    known = classes()
    wanted, queue = set(), sorted(index()["modules"])
    while queue:
        model_type = queue.pop()
        if model_type in wanted or model_type not in known:
            continue
        wanted.add(model_type)
        queue += [
            s.model_type for s in getattr(known[model_type], "sub_configs_defaults", {}).values()
        ]
        queue += [sub.model_type for sub in below(known[model_type])]
    lines = [
        f"{json.dumps(m)}: {json.dumps(describe(known[m]), sort_keys=True)}" for m in sorted(wanted)
    ]
    source = json.dumps({"source": f"transformers {transformers.__version__}, configuration_*.py"})
    TARGET.write_text("{\n" + ",\n".join([f'"_": {source}', *lines]) + "\n}\n")
    print(f"{len(lines)} model types, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
