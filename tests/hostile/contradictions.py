"""Folders whose parts contradict each other, by what is contradicted.

    for name, write in folders(): write(folder)     a right folder, and one thing of it changed

Each change is one that nobody's loader loads as it stands, or that loads something else than is
said: an answer about it says so, or there is none.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from math import prod

from tests import packings
from tests.formats.build_gguf import Writer
from tests.sparse import write_index, write_repo, write_safetensors

PACKED = {
    "gptq": "gptq 4-bit",
    "awq": "awq",
    "fp8": "fp8 per block",
    "bnb": "bnb nf4",
    "compressed-tensors": "compressed-tensors int4",
}
LAYER = "model.layers.0.self_attn."
Change = Callable[[dict, dict], None]


def sized(key, value):
    def change(config, tensors):
        config[key] = value

    return change


def declared(**values):
    def change(config, tensors):
        config["quantization_config"] |= values

    return change


def undeclared(config, tensors):
    del config["quantization_config"]


def without(end):
    def change(config, tensors):
        for name in [name for name in tensors if name.endswith(end)]:
            del tensors[name]

    return change


def shaped(end, divide):
    """The first tensor with that end has `1 / divide` of its rows."""

    def change(config, tensors):
        name = next(name for name in tensors if name.endswith(end))
        dtype, (rows, *more) = tensors[name]
        tensors[name] = (dtype, (rows // divide, *more))

    return change


def turned(end):
    """Matrices with that end have their sides exchanged."""

    def change(config, tensors):
        for name in [name for name in tensors if name.endswith(end)]:
            dtype, shape = tensors[name]
            tensors[name] = (dtype, shape[::-1])

    return change


def kept_in(end, dtype):
    def change(config, tensors):
        for name in [name for name in tensors if name.endswith(end)]:
            tensors[name] = (dtype, tensors[name][1])

    return change


def formed(end, shape):
    """Tensors with that end have this shape, in which -1 is what the others leave."""

    def change(config, tensors):
        for name in [name for name in tensors if name.endswith(end)]:
            dtype, old = tensors[name]
            rest = prod(old) // abs(prod(shape))
            tensors[name] = (dtype, tuple(rest if size < 0 else size for size in shape))

    return change


def prefixed(config, tensors):
    for name in list(tensors):
        tensors[f"xx.{name}"] = tensors.pop(name)


def foreign(count):
    def change(config, tensors):
        tensors.clear()
        tensors.update({f"t{n}": ("U8", (1,)) for n in range(count)})

    return change


def weights(**values):
    def change(config, tensors):
        config["quantization_config"]["config_groups"]["group_0"]["weights"] |= values

    return change


# Of any folder with weights
ANY = {
    "key heads of fewer": sized("num_key_value_heads", 1),
    "key heads of more": sized("num_key_value_heads", 4),
    "a narrower feed-forward": sized("intermediate_size", 256),
    "a wider feed-forward": sized("intermediate_size", 1024),
    "fewer layers": sized("num_hidden_layers", 1),
    "more layers": sized("num_hidden_layers", 3),
    "a larger vocabulary": sized("vocab_size", 2000),
    "a smaller vocabulary": sized("vocab_size", 500),
    "one tensor of another": foreign(1),
    "tensors of another": foreign(200),
    "names with a prefix": prefixed,
    "no embedding": without("embed_tokens.weight"),
}
OF_FORMAT = {
    "plain": {
        "sides exchanged": turned("down_proj.weight"),
        "an embedding on its side": turned("embed_tokens.weight"),
        "positions in a text": sized("max_position_embeddings", "32768"),
        "matrices in a stack of one": formed("up_proj.weight", (1, 512, -1)),
        "a matrix that is flat": formed("up_proj.weight", (-1,)),
        "a norm with columns": formed("model.norm.weight", (-1, 1)),
    },
    "gptq": {
        "undeclared": undeclared,
        "no method": declared(quant_method=None),
        "no scales": without(".scales"),
        "no zero points": without(".qzeros"),
        "half of the words": shaped(".qweight", 2),
        "8 bits": declared(bits=8),
        "2 bits": declared(bits=2),
        "3 bits": declared(bits=3),
        "groups of 32": declared(group_size=32),
        "one group": declared(group_size=-1),
        "awq": declared(quant_method="awq", version="gemm"),
        "left alone": declared(modules_to_not_convert=["self_attn"]),
        "no order": without(".g_idx"),
        "a head that is whole": declared(lm_head=True),
    },
    "awq": {
        "undeclared": undeclared,
        "no scales": without(".scales"),
        "no zero points": without(".qzeros"),
        "8 bits": declared(bits=8),
        "groups of 32": declared(group_size=32),
        "no method": declared(quant_method=None),
        "gptq": declared(quant_method="gptq"),
        "left alone": declared(modules_to_not_convert=["mlp"]),
    },
    "fp8": {
        "undeclared": undeclared,
        "no scales": without("_scale_inv"),
        "blocks of 64": declared(weight_block_size=[64, 64]),
        "one scale": declared(weight_block_size=None),
        "another float8": kept_in("proj.weight", "F8_E5M2"),
        "left alone": declared(modules_to_not_convert=["model.layers.0.self_attn.q_proj"]),
    },
    "bnb": {
        "undeclared": undeclared,
        "8 bits": declared(load_in_4bit=False, load_in_8bit=True),
        "no scales": without(".absmax"),
        "no map": without(".quant_map"),
        "scales of scales": declared(bnb_4bit_use_double_quant=True),
        "left alone": declared(llm_int8_skip_modules=["mlp"]),
    },
    "compressed-tensors": {
        "undeclared": undeclared,
        "8 bits": weights(num_bits=8),
        "groups of 32": weights(group_size=32),
        "no scales": without("weight_scale"),
        "no shape": without("weight_shape"),
        "half of the words": shaped("weight_packed", 2),
        "left alone": declared(ignore=["re:.*mlp.*"]),
    },
}


def folders() -> Iterator[tuple[str, Callable]]:
    """Yield every folder that contradicts itself: its name, and what writes it."""
    for form, packing in {"plain": None, **PACKED}.items():
        for name, change in {**ANY, **OF_FORMAT.get(form, {})}.items():
            yield f"{form}: {name}", writer(packing, change)
    for name, write in FILES.items():
        yield f"files: {name}", write
    for name, change in ADAPTERS.items():
        yield f"adapter: {name}", adapter(change)
    for name, change in GGUF.items():
        yield f"gguf: {name}", gguf(change)


def writer(packing, change):
    def write(folder):
        config, tensors = right(packing)
        change(config, tensors)
        write_repo(folder, config, tensors)

    return write


def right(packing):
    """Config and tensors of which nothing is changed."""
    if packing is None:
        return deepcopy(packings.CONFIG), packings.plain()
    return deepcopy(packings.config(packing)), dict(packings.PACKINGS[packing][1])


# Files beside each other

FIRST = "model.layers.0.input_layernorm.weight"
HALVES = {
    name: f"model-0000{1 + (place % 2)}-of-00002.safetensors"
    for place, name in enumerate(packings.plain())
}


def index(change):
    """Two shards with their index, of which `change` gets the folder, the map and the size."""

    def write(folder):
        write_repo(folder, packings.CONFIG, packings.plain(), weight_map=HALVES)
        path = folder / "model.safetensors.index.json"
        weight_map, total = HALVES | {}, json.loads(path.read_text())["metadata"]["total_size"]
        write_index(folder, weight_map, change(folder, weight_map, total))
        path.write_text(path.read_text())

    return write


def _unmapped(folder, weight_map, total):
    del weight_map[FIRST]
    return total


def _elsewhere(folder, weight_map, total):
    other = {HALVES[name] for name in HALVES} - {weight_map[FIRST]}
    weight_map[FIRST] = other.pop()
    return total


def _twice(folder, weight_map, total):
    for file in sorted(set(HALVES.values())):
        tensors = {name: t for name, t in packings.plain().items() if HALVES[name] == file}
        write_safetensors(folder / file, tensors | {FIRST: packings.plain()[FIRST]})
    return total


def _stray(folder, weight_map, total):
    write_safetensors(folder / "model-00003-of-00003.safetensors", {"x": ("BF16", (4, 4))})
    return total


def _named_and_absent(folder, weight_map, total):
    weight_map["model.layers.9.mlp.up_proj.weight"] = weight_map[FIRST]
    return total


def _both(folder, weight_map, total):
    write_safetensors(folder / "model.safetensors", packings.plain())
    return total


def _settings_twice(folder):
    config, tensors = right("gptq 4-bit")
    write_repo(folder, config, tensors)
    (folder / "quantize_config.json").write_text('{"bits": 8, "group_size": 128}')


FILES = {
    "a total a hundred times as large": index(lambda folder, weight_map, total: 100 * total),
    "a total below zero": index(lambda folder, weight_map, total: -1),
    "a total that is a text": index(lambda folder, weight_map, total: "much"),
    "a tensor in no map": index(_unmapped),
    "a tensor mapped elsewhere": index(_elsewhere),
    "a tensor in both shards": index(_twice),
    "a shard in no map": index(_stray),
    "a tensor that is nowhere": index(_named_and_absent),
    "all weights beside their shards": index(_both),
    "settings of a format in two files": _settings_twice,
}


# Adapters

BASE = "base_model.model.model.layers."
LORA = {
    "peft_type": "LORA",
    "base_model_name_or_path": "Qwen/Qwen3-0.6B",  # 28 layers, 1,024 wide; 8 heads of keys
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "layers_to_transform": None,
    "rank_pattern": {},
}


def pairs(layers=28, r=8):
    rows = {"q_proj": 2048, "v_proj": 1024}
    found = {}
    for layer in range(layers):
        for name, outputs in rows.items():
            module = f"{BASE}{layer}.self_attn.{name}"
            found[f"{module}.lora_A.weight"] = ("F32", (r, 1024))
            found[f"{module}.lora_B.weight"] = ("F32", (outputs, r))
    return found


def adapter(change):
    def write(folder):
        config, tensors = deepcopy(LORA), pairs()
        change(config, tensors)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        write_safetensors(folder / "adapter_model.safetensors", tensors)

    return write


def having(name, shape):
    def change(config, tensors):
        tensors[f"{BASE}{name}"] = ("F32", shape)

    return change


def whole(name, rows):
    """An embedding or a head that is kept whole, of so many rows."""

    def change(config, tensors):
        config["modules_to_save"] = [name.rpartition(".")[2]]
        tensors[f"base_model.model.{name}.weight"] = ("F32", (rows, 1024))

    return change


def _twice_as_wide(config, tensors):
    for name, (dtype, (rows, columns)) in tensors.items():
        if ".lora_A." in name:
            tensors[name] = (dtype, (rows, 2 * columns))


def _more_layers(config, tensors):
    tensors.update(pairs(layers=30))


def _one_is_wider(config, tensors):
    config["base_model_name_or_path"] = "somebody/unknown"
    tensors[f"{BASE}1.self_attn.q_proj.lora_A.weight"] = ("F32", (8, 2048))


ADAPTERS = {
    "a larger rank": sized("r", 16),
    "no rank": sized("r", 0),
    "other modules": sized("target_modules", ["k_proj", "o_proj"]),
    "fewer modules": sized("target_modules", ["q_proj"]),
    "more modules": sized("target_modules", ["q_proj", "v_proj", "o_proj"]),
    "a word that names none": sized("target_modules", "o_proj"),
    "modules that it leaves out": sized("exclude_modules", ["v_proj"]),
    "magnitudes": sized("use_dora", True),
    "magnitudes that are not said": having("0.self_attn.q_proj.lora_magnitude_vector", (2048,)),
    "biases": sized("bias", "all"),
    "whole modules": sized("modules_to_save", ["classifier"]),
    "an embedding of another vocabulary": whole("model.embed_tokens", 151_940),
    "a head of another vocabulary": whole("lm_head", 1000),
    "whole modules that are not said": having("0.mlp.up_proj.weight", (3072, 1024)),
    "ranks of their own": sized("rank_pattern", {"q_proj": 4}),
    "some layers": sized("layers_to_transform", [0, 1]),
    "one layer": sized("layers_to_transform", 3),
    "another kind": sized("peft_type", "LOHA"),
    "twice as wide": _twice_as_wide,
    "more layers than its base": _more_layers,
    "one that is wider": _one_is_wider,
}


# GGUF: one file, by its metadata and its tensors in ggml's order

FACTS = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.vocab_size": 1000,
    "general.file_type": 0,
}
BLOCK = {
    "attn_norm": (256,),
    "attn_q": (256, 256),
    "attn_k": (256, 64),
    "attn_v": (256, 64),
    "attn_output": (256, 256),
    "ffn_norm": (256,),
    "ffn_gate": (256, 512),
    "ffn_up": (256, 512),
    "ffn_down": (512, 256),
}
WHOLE = {"token_embd": (256, 1000), "output_norm": (256,), "output": (256, 1000)}


def gguf(change):
    def write(folder):
        facts = dict(FACTS)
        tensors = WHOLE | {f"blk.{i}.{name}": ne for i in (0, 1) for name, ne in BLOCK.items()}
        change(facts, tensors)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.gguf").write_bytes(file_of(facts, tensors))

    return write


def file_of(facts, tensors):
    w = Writer()
    for key, value in facts.items():
        if isinstance(value, list):
            w.key(key, w.array("i32", value))
        else:
            w.key(key, w.value("str" if isinstance(value, str) else "u32", value))
    for name, ne in tensors.items():
        w.tensor(f"{name}.weight", list(ne))
    return w.file()


def architecture(name, facts, tensors):
    for key in [key for key in facts if key.startswith("llama.")]:
        facts[key.replace("llama", name, 1)] = facts.pop(key)
    facts["general.architecture"] = name


def _fact(key, value, facts, tensors):
    facts[key] = value


def _no_fact(key, facts, tensors):
    del facts[key]


def _tensor(name, ne, facts, tensors):
    tensors[name] = ne


def _no_tensor(name, facts, tensors):
    del tensors[name]


GGUF = {
    **{f"called {name}": partial(architecture, name) for name in ("qwen2", "qwen3", "gemma3")},
    **{f"no {name}": partial(_no_tensor, name) for name in ("output_norm", "blk.1.ffn_gate")},
    **{f"no {name}": partial(_no_tensor, name) for name in ("blk.0.attn_q", "blk.0.attn_norm")},
    **{
        f"no {key}": partial(_no_fact, f"llama.{key}")
        for key in (
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
        )
    },
    "a smaller output": partial(_tensor, "output", (64, 100)),
    "a smaller norm": partial(_tensor, "blk.0.attn_norm", (32,)),
    "a further tensor": partial(_tensor, "blk.0.attn_x", (32,)),
    "a list of three blocks": partial(_fact, "llama.attention.head_count_kv", [2, 2, 2]),
    "experts": partial(_fact, "llama.expert_count", 4),
    "experts in use": partial(_fact, "llama.expert_used_count", 2),
    "parts": partial(_fact, "split.count", 3),
    "tensors of all parts": partial(_fact, "split.tensors.count", 99),
    "a type of file": partial(_fact, "general.file_type", 15),
    "an adapter": partial(_fact, "general.type", "adapter"),
}
