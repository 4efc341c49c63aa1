"""Cases by target: from a seed to files or requests, and to the command line that meets them.

    TARGETS["config"](random.Random("config 7"), place) -> Case(arguments=["load", ".../config.json"])

A `Place` is a folder that is emptied after each case, with a stand-in Hub over it.
"""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests import packings
from tests.formats import corpus
from tests.formats.build_gguf import Writer
from tests.hostile import mutation
from tests.hostile.mutation import mutated, value
from tests.hub import Fault, Hub
from tests.sparse import write_repo, write_safetensors

SECRET = "hf_s3cretS3cret"
PASSWORD = "p4ssw0rdOfSomebody"


@dataclass(frozen=True, kw_only=True)
class Case:
    """`named` are words of which an error must hold one; `waits` says that the clock counts."""

    arguments: list
    stdin: bytes | None = None
    named: tuple = ()
    secrets: tuple = ()
    codes: tuple = (0, 1, 2, 3, 4)
    form: str = "human"
    waits: bool = False
    alone: bool = True  # an error stands alone on stderr
    says: bool = False  # something is warned about, or refused
    act: Callable | None = None  # in the place of a command: returns (code, what was said)


@dataclass
class Place:
    folder: Path
    hub: Any = None
    count: int = field(default=0)

    def __enter__(self):
        (self.folder / "hub").mkdir()
        self.hub = Hub(self.folder / "hub").__enter__()
        endpoint = self.hub.endpoint.replace("http://", f"http://user:{PASSWORD}@")
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "WEIGH"))]:
            del os.environ[name]
        os.environ |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(self.folder / "home")}
        os.environ |= {"HF_TOKEN": SECRET, "NO_COLOR": "1", "NO_PROXY": "*"}
        return self

    def __exit__(self, *failure):
        self.hub.__exit__(*failure)

    def new(self):
        self.count += 1
        folder = self.folder / f"case{self.count}"
        folder.mkdir()
        return folder

    def clear(self):
        self.hub.faults.clear()
        self.hub.requests.clear()
        for path in (*self.folder.glob("case*"), *(self.folder / "hub").iterdir()):
            shutil.rmtree(path)


# Commands

GPUS = ("4090", "a100-80gb:2", "h100:8", "t4", "24GiB", "mi300x")
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp")
METHODS = ("full", "lora", "qlora", "dora")
SHARDS = ("none", "ddp", "zero2", "zero3", "fsdp1", "fsdp2")


def asked(rng, model):
    """A command about `model`, and the form of its answer."""
    form = rng.choice(("json", "json", "json", "human", "markdown"))
    command = rng.choice(("load", "load", "infer", "infer", "train"))
    words = [command, str(model), "--format", form, "--offline"]
    if command == "infer":
        words += ["--engine", rng.choice(ENGINES)]
        if rng.random() < 0.3:
            words += ["--images", str(rng.choice((1, 2))), "--image-size", "1280x720"]
    if command == "train":
        words += ["--method", rng.choice(METHODS), "--seq-len", str(rng.choice((128, 2048)))]
        words += ["--checkpointing", rng.choice(("none", "full"))]
    if rng.random() < 0.5:
        words += ["--gpu", rng.choice(GPUS)]
    return words, form


def about(rng, model, *, named):
    words, form = asked(rng, model)
    return Case(arguments=words, form=form, named=named)


# Configs


@cache
def configs():
    """Each model type that we know, with all that its class fills in, and each of the catalogue."""
    from weighbridge.models import catalogue
    from weighbridge.models.arch.config import _defaults
    from weighbridge.models.arch.model_types import all_types

    found = [{"model_type": t, **_defaults().get(t, {}).get("defaults", {})} for t in all_types()]
    return found + [dict(catalogue.find(name).config) for name in catalogue.names()]


def config(rng, place):
    made = rng.choice(configs())
    keys = mutation.keys_read("arch", "quantization", "engines", "training")
    made = mutated(rng, made, keys=keys)
    path = place.new() / "config.json"
    path.write_text(json.dumps(made))
    return about(rng, path, named=("config.json",))


def params(rng, place):
    made = mutated(rng, corpus.PARAMS, keys=mutation.keys_read("formats"))
    path = place.new() / "params.json"
    path.write_text(json.dumps(made))
    return about(rng, path, named=("params.json",))


# Folders with weights


def _tensors(rng):
    name = rng.choice(list(packings.PACKINGS))
    return packings.config(name), dict(packings.PACKINGS[name][1])


def safetensors(rng, place):
    """A header with wrong entries, or wrong bytes."""
    folder = place.new()
    told, tensors = _tensors(rng)
    write_repo(folder, told, tensors)
    path = folder / "model.safetensors"
    raw = path.read_bytes()[: 1 << 20]
    if rng.random() < 0.5:
        raw = _bytes(rng, raw, "safetensors")
    else:
        length = int.from_bytes(raw[:8], "little")
        header = mutated(rng, json.loads(raw[8 : 8 + length]), keys=["x", "__metadata__"])
        text = json.dumps(header).encode()
        raw = len(text).to_bytes(8, "little") + text
    path.write_bytes(raw)
    return about(rng, rng.choice((folder, path)), named=(folder.name, "model.safetensors"))


def _bytes(rng, raw, target):
    from tests.fuzz import MUTATIONS, insert_token, mutate

    tokens = corpus.TARGETS[target].tokens
    return mutate(rng, raw, [*MUTATIONS, insert_token(tokens)] if tokens else MUTATIONS)


def names(rng, place):
    """Right headers whose tensors have wrong names, numbers and ranks."""
    folder = place.new()
    told, tensors = _tensors(rng)
    made = {}
    for name, (dtype, shape) in tensors.items():
        if rng.random() < 0.1:
            name = _renamed(rng, name)
        if rng.random() < 0.1:
            shape = rng.choice(((), (1,), (0,), (0, 0), tuple(shape)[::-1], (1, 2, 3, 4, 5)))
        made[name] = (dtype, shape)
    if rng.random() < 0.3:
        told = mutated(rng, told)
    write_repo(folder, told, made)
    return about(rng, folder, named=(folder.name, "config.json", "model.safetensors"))


def _renamed(rng, name):
    words = name.split(".")
    at = rng.randrange(len(words))
    words[at] = rng.choice(
        ("30000000", "9" * 5000, "experts.7", "", "weight", "layers.-1", "\x1b]0;x\x07", "lora_A")
    )
    return ".".join(words)


def index(rng, place):
    folder = place.new()
    told, tensors = _tensors(rng)
    write_repo(folder, told, tensors, shards=3)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(mutated(rng, json.loads(path.read_text()))))
    return about(rng, folder, named=(folder.name, path.name))


def small(rng, place):
    """Adapters, pipelines, lists of modules: their JSON with wrong values."""
    folder = place.new()
    told = dict(packings.CONFIG)
    write_repo(folder / "part", told, packings.plain())
    files = {
        "adapter_config.json": {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]},
        "model_index.json": {"_class_name": "P", "part": ["transformers", "LlamaForCausalLM"]},
        "modules.json": [{"idx": 0, "name": "0", "path": "part", "type": "s.models.Dense"}],
        "quantize_config.json": {"bits": 4, "group_size": 128},
        "generation_config.json": {"max_length": 20},
    }
    name = rng.choice(list(files))
    made = {"": files[name]}
    made = mutated(rng, made, keys=["bits", "r", "target_modules", "_class_name"])
    (folder / name).write_text(json.dumps(made.get("", made)))
    if name != "model_index.json":
        write_safetensors(folder / "model.safetensors", packings.plain())
    if name in ("modules.json", "quantize_config.json"):
        (folder / "config.json").write_text(json.dumps(told))
    return about(rng, folder, named=(folder.name, name, "config.json"))


# GGUF


@cache
def architectures():
    from weighbridge.engines.llama_cpp.graphs import architectures as graphs

    text = Path(graphs.__file__).read_text()
    found = set(mutation.re.findall(r'"([a-z][a-z0-9_-]{2,})"', text))
    return sorted(found | {"clip", "bert", "t5", "kimi-linear", "qwen35moe", "rwkv7", "mamba2"})


USUAL = {
    "block_count": 2,
    "context_length": 4096,
    "embedding_length": 256,
    "feed_forward_length": 512,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "vocab_size": 1000,
}
SIGNED = ("i8", "i16", "i32", "i64")


def gguf(rng, place):
    w, arch = Writer(), rng.choice(architectures())
    w.key("general.architecture", w.value("str", arch))
    facts = dict(USUAL)
    more = mutation.keys_read("engines/llama_cpp", "arch", "engines/ik_llama_cpp")
    for key in rng.sample(more, k=rng.randrange(6)):
        facts[key] = rng.choice((1, 2, 8, 64))
    for key in rng.sample(list(facts), k=rng.choice((0, 1, 1, 2, 4))):
        facts[key] = None
    for key, number in facts.items():
        w.key(f"{arch}.{key}", _gguf_value(rng, w) if number is None else w.value("u32", number))
    _gguf_tensors(rng, w)
    path = place.new() / "model.gguf"
    raw = w.file()
    path.write_bytes(_bytes(rng, raw, "gguf") if rng.random() < 0.15 else raw)
    return about(rng, path, named=("model.gguf",))


def _gguf_value(rng, w):
    kind = rng.randrange(8)
    if kind < 3:
        return w.value("u32", rng.choice((0, 1, 3, 255, 1 << 20, 30_000_000, (1 << 31) - 1)))
    if kind < 5:
        return w.value(rng.choice(SIGNED), rng.choice((-1, -2, -128, 0, 5)))
    if kind == 5:
        return w.value("u64", rng.choice((1 << 63, (1 << 64) - 1, 1 << 40)))
    if kind == 6:
        return w.value(*rng.choice((("str", "x"), ("f32", float("nan")), ("bool", True))))
    numbers = [rng.choice((-1, 0, 1, 2, 100)) for _ in range(rng.choice((0, 1, 2, 3, 5000)))]
    return w.array("i32", numbers)


def _gguf_tensors(rng, w):
    shapes = {
        "attn_q": (256, 256),
        "attn_k": (256, 128),
        "ffn_up": (256, 512),
        "ffn_down": (512, 256),
    }
    shapes |= {"ffn_up_exps": (256, 64, 8), "ffn_gate_inp": (256, 8), "attn_norm": (256,)}
    w.tensor("token_embd.weight", [256, 1000], "Q4_K")
    told = set()
    for layer in (0, 1, rng.choice((1, 2, 30_000_000, 1 << 40))):
        for name, shape in shapes.items():
            if rng.random() < 0.9:
                shape = rng.choice((shape, shape, shape, shape, (), (0, 0), shape[::-1], (256,)))
                prefix = rng.choice(("blk", "blk", "blk", "blk", "enc.blk", "v.blk", "mm"))
                number = "9" * 5000 if rng.random() < 0.005 else layer
                full = f"{prefix}.{number}.{name}.weight"
                if full not in told:
                    told.add(full)
                    w.tensor(full, list(shape), rng.choice(("F32", "F16", "BF16")))
    w.tensor("output.weight", [256, 1000], "Q6_K")


# Pickles

WORDS = [
    *corpus.TARGETS["torch_zip"].tokens,
    b"]q\x01",
    b"}q\x02",
    b"h\x01",
    b"h\x02",
    b"(",
    b"l",
    b"d",
]
WORDS += [
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b")R",
    b"\x85R",
    b"e",
]
WORDS += [
    b"s",
    b"u",
    b"a",
    b"t",
    b"0",
    b"2",
    b"N",
    b"K\x01",
    b"U\x01a",
    b"\x81",
    b"b",
    b"\x93",
    b"\x86",
]


def pickled(rng, place):
    """Right pickles with wrong bytes, and pickles of any instructions."""
    from tests.formats import build_torch

    path = place.new() / "pytorch_model.bin"
    if rng.random() < 0.5:
        target = rng.choice(("torch_zip", "torch_legacy"))
        path.write_bytes(_bytes(rng, rng.choice(list(corpus.TARGETS[target].seeds())), target))
    else:
        program = b"".join(rng.choices(WORDS, k=rng.choice((5, 50, 500, 5000))))
        raw = b"\x80\x02}q\x01]q\x02" + program * rng.choice((1, 1, 50)) + b"."
        made = (
            build_torch.zipped(raw, {"0": 24})
            if rng.random() < 0.7
            else build_torch.legacy(raw, {})
        )
        path.write_bytes(made)
    words = ["load", str(path), "--json"]
    return Case(arguments=words, form="json", named=(path.name,))


# Large files that are cheap to write


def bomb(rng, place):
    made = rng.choice(list(BOMBS.values()))
    path = made(rng, place.new())
    words = [rng.choice(("load", "load", "infer")), str(path), "--json"]
    return Case(arguments=words, form="json", named=(path.name, path.parent.name))


def _header(path, text, data=0):
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        file.truncate(8 + len(text) + data)
    return path


SIZES = (1 << 16, 1 << 20, 10 << 20, 40 << 20, 98 << 20)


def junk_keys(rng, folder):
    one = rng.choice((b'"%d":{},', b'"%d":1,', b'"%d":"",', b'"%d":[],', b'"%d":null,'))
    count = rng.choice(SIZES) // 12
    inner = b"".join(one % i for i in range(count)) + b'"x":1'
    inside = rng.random() < 0.5
    text = b'{"__metadata__":{' + inner + b"}}" if inside else b"{" + inner + b"}"
    return _header(folder / "model.safetensors", text)


def many_tensors(rng, folder):
    count = rng.choice((1000, 50_000, 200_000, 400_000, 700_000))
    stem = rng.choice(
        ("t%d", "model.layers.%d.mlp.weight", "model.layers.0.mlp.experts.%d.w1.weight")
    )
    one = '"%s":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    text = "{" + ",".join(one % (stem % i, i, i + 1) for i in range(count)) + "}"
    if rng.random() < 0.3:
        (folder / "config.json").write_text(json.dumps(packings.CONFIG))
    return _header(folder / "model.safetensors", text.encode(), count)


def deep(rng, folder):
    text = rng.choice((b"[", b'{"a":')) * (rng.choice(SIZES) // 5)
    return _header(folder / "model.safetensors", text)


def long_name(rng, folder):
    text = b'{"%s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' % (b"x" * rng.choice(SIZES))
    return _header(folder / "model.safetensors", text, 1)


def large_config(rng, folder):
    path = folder / "config.json"
    count = rng.choice((1 << 16, 1 << 20, 15 << 20)) // 4
    text = {
        "model_type": "llama",
        rng.choice(("junk", "layer_types", "architectures")): [1] * count,
    }
    path.write_text(json.dumps(text))
    return path


def memo_bomb(rng, folder):
    from tests.formats import build_torch

    inside = rng.choice(
        (
            b"ccollections\nOrderedDict\nh\x01\x85R0",
            b"h\x01\x850",
            b"]h\x01a0",
            b"h\x010",
            b"h\x01a",
        )
    )
    head = b"]q\x01(" + b"K\x01K\x02\x86" * 65_000 + b"e0]q\x02"
    count = rng.choice((100, 10_000, 1 << 20)) // len(inside)
    path = folder / "pytorch_model.bin"
    path.write_bytes(build_torch.zipped(b"\x80\x02" + head + inside * count + b".", {}))
    return path


def instructions(rng, folder):
    from tests.formats import build_torch

    one = rng.choice(
        (b"caa\nbb\n0", b"}q\x010", b"K\x010", b"U\x02ab0", b"caa\nbb\n)R0", b"(l0", b"2")
    )
    kept = one.replace(b"0", b"a") if rng.random() < 0.5 else one
    raw = b"\x80\x02]" + kept * (rng.choice(SIZES[:4]) // len(one)) + b"."
    path = folder / "pytorch_model.bin"
    path.write_bytes(build_torch.zipped(raw, {}))
    return path


def gguf_strings(rng, folder):
    w = Writer()
    w.key("general.architecture", w.value("str", "llama"))
    count = rng.choice((1000, 1 << 20, 8 << 20))
    raw = w.pack("IIQ", 9, 8, count) + w.string("") * count
    w.key("tokens", raw)
    path = folder / "model.gguf"
    path.write_bytes(w.file())
    return path


def gguf_many(rng, folder):
    w = Writer()
    w.key("general.architecture", w.value("str", rng.choice(("llama", "qwen2moe", "clip"))))
    for i in range(rng.choice((100, 4000, 60_000, 200_000))):
        w.tensor(f"blk.{i % 4000}.x{i}.weight", [32], "Q8_0")
    path = folder / "model.gguf"
    path.write_bytes(w.file())
    return path


def many_shards(rng, folder):
    count = rng.choice((10, 300, 3000))
    for i in range(count):
        write_safetensors(
            folder / f"s{i}.safetensors", {f"t{i}.{j}": ("U8", (1,)) for j in range(9)}
        )
    names = {f"t{i}.{j}": f"s{i}.safetensors" for i in range(count) for j in range(9)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "config.json").write_text(json.dumps(packings.CONFIG))
    return folder


BOMBS = {
    made.__name__: made
    for made in (junk_keys, many_tensors, deep, long_name, large_config, memo_bomb, instructions)
}
BOMBS |= {made.__name__: made for made in (gguf_strings, gguf_many, many_shards)}


# The Hub


def hub(rng, place):
    """What a server may answer: listings, headers, redirects, sizes, packed bodies."""
    write_repo(
        place.hub.root / "org" / "tiny",
        packings.CONFIG,
        packings.plain(),
        shards=rng.choice((1, 2)),
    )
    place.hub.faults += [_fault(rng, place) for _ in range(rng.choice((1, 1, 2)))]
    words, form = asked(rng, "org/tiny")
    words.remove("--offline")
    return Case(
        arguments=words,
        form=form,
        named=("org/tiny",),
        secrets=(PASSWORD, SECRET),
        waits=True,
        alone=False,
    )


def _fault(rng, place):
    match = rng.choice(("/api/", "/api/", "config.json", "safetensors", "."))
    kind = rng.choice(list(FAULTS))
    return FAULTS[kind](rng, place, match)


def wrong_listing(rng, place, match):
    listing = {"id": "org/tiny", "sha": "a" * 40, "gated": False}
    listing["siblings"] = [
        {"rfilename": name, "size": place.hub.size("org/tiny", name)}
        for name in place.hub.files("org/tiny")
    ]
    made = mutated(rng, listing, keys=["id", "sha", "siblings"])
    return Fault("/api/", body=json.dumps(made).encode())


def wrong_status(rng, place, match):
    words = rng.choice(mutation.NAMES)
    plain = "".join(c for c in words if 32 <= ord(c) < 127) or "x"
    headers = {
        "X-Error-Code": rng.choice(("GatedRepo", "RepoNotFound", "EntryNotFound", plain[:500])),
        "X-Error-Message": (plain * 40)[: rng.choice((10, 2000))],
        "Retry-After": rng.choice(
            ("0", "1", "99999999", "-1", "x", "Fri, 01 Jan 2027 00:00:00 GMT")
        ),
    }
    status = rng.choice(
        (201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 416, 418, 429, 500, 503, 599)
    )
    return Fault(
        match, status=status, headers=headers, body=rng.choice((b"", b"{}", b"\xff" * 100))
    )


def redirected(rng, place, match):
    to = rng.choice(
        (
            f"{place.hub.endpoint}/org/tiny/resolve/main/config.json",
            "http://127.0.0.1:99999/x",
            "http://127.0.0.1:1/x?X-Amz-Signature=" + PASSWORD,
            "file:///etc/passwd",
            "ftp://x/",
            "//",
            "http://[::1",
            "http://\u00e9.invalid/".encode().decode("latin-1"),
            "/api/models/org/tiny",
            "x" * 3000,
        )
    )
    return Fault(match, status=rng.choice((301, 302, 303, 307, 308)), headers={"Location": to})


def packed(rng, place, match):
    """A small body that unpacks to much."""
    size = rng.choice((1 << 10, 1 << 20, 100 << 20, 700 << 20))
    body = bytearray()
    packer = gzip.zlib.compressobj(9, gzip.zlib.DEFLATED, 31)
    filler = rng.choice((b" ", b"[", b"\0")) * (1 << 20)
    for _ in range(max(1, size >> 20)):
        body += packer.compress(filler)
    body += packer.flush()
    return Fault(match, status=200, body=bytes(body), headers={"Content-Encoding": "gzip"})


def wrong_headers(rng, place, match):
    ranges = (
        "bytes 0-1/2",
        "bytes 5-1/2",
        "bytes */9",
        "x",
        "bytes 0-99999999999/1",
        "bytes -1-2/3",
    )
    headers = {"Content-Range": rng.choice(ranges)}
    if rng.random() < 0.5:
        headers = {"Content-Encoding": rng.choice(("gzip", "br", "deflate", "x"))}
    return Fault(
        match, status=rng.choice((200, 206)), headers=headers, body=b"{}" * rng.randrange(99)
    )


def cut_short(rng, place, match):
    return Fault(match, cut=rng.choice((0, 1, 10, 100)), ranges=rng.random() < 0.5)


def too_long(rng, place, match):
    """More than the listing promised."""
    return Fault(match, status=200, body=b" " * rng.choice((10 << 10, 10 << 20, 600 << 20)))


FAULTS = {
    made.__name__: made
    for made in (
        wrong_listing,
        wrong_status,
        redirected,
        packed,
        wrong_headers,
        cut_short,
        too_long,
    )
}


# Requests, commands and names

REQUESTS = (
    {"task": "load", "model": "gpt2", "workload": {"dtype": "float16", "gpu": "4090"}},
    {"task": "infer", "model": "llama-3.2-1b", "workload": {"engine": "vllm", "context": 4096}},
    {"task": "infer", "model": {"config": packings.CONFIG}, "workload": {"engine": "sglang"}},
    {"task": "infer", "workload": {"command": "vllm serve llama-3.2-1b -tp 2", "gpu": "h100:2"}},
    {"task": "train", "model": "gpt2", "workload": {"method": "lora", "lora_targets": ["c_attn"]}},
)


def requests(rng, place):
    from weighbridge.workload import INFER, TRAIN

    lines = []
    for _ in range(rng.choice((1, 3))):
        made = mutated(rng, rng.choice(REQUESTS))
        if isinstance(made.get("workload"), dict) and rng.random() < 0.5:
            made["workload"][rng.choice([*INFER, *TRAIN])] = value(rng)
        raw = json.dumps(made).encode()
        lines.append(_bytes(rng, raw, "json").replace(b"\n", b"") if rng.random() < 0.2 else raw)
    if rng.random() < 0.02:
        lines.append(b"x" * rng.choice((1 << 20, 17 << 20, 100 << 20)))
    return Case(
        arguments=["run", "-", "--offline"], stdin=b"\n".join(lines), form="json", codes=(0, 2)
    )


LAUNCHES = (
    "vllm serve llama-3.1-8b --max-model-len 32k -tp 2 --gpu-memory-utilization 0.9",
    "python -m sglang.launch_server --model-path qwen3-8b --context-length 32768 --tp 2",
    "llama-server -m model.gguf -c 8192 -ngl 99 -ctk q8_0 --parallel 4",
    "docker run --gpus all vllm/vllm-openai:v0.11.0 --model mixtral-8x7b --quantization fp8",
)
SHELL = (
    "'",
    '"',
    "\\",
    "$(x)",
    "`",
    "|",
    ";",
    "&&",
    "-",
    "--",
    "=",
    "\n",
    "\t",
    "{}",
    "\x1b[1m",
    "nan",
)


def launches(rng, place):
    words = rng.choice(LAUNCHES).split(" ")
    for _ in range(rng.choice((1, 2, 5))):
        new = rng.choice(
            (*SHELL, str(rng.choice(mutation.NUMBERS)), *mutation.NAMES, "--hf-overrides")
        )
        words[rng.randrange(len(words))] = new.replace("\0", "")
    arguments = ["infer", "--command", " ".join(words), "--offline", "--json"]
    return Case(arguments=arguments, form="json")


def gpus(rng, place):
    from weighbridge.machines.accelerators.parts import instances, parts

    text = rng.choice([*parts(), *(p.name for p in parts().values()), *instances()])
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        new = rng.choice(
            (":8", " x 4", "2x", "80GB", "张", "8", "9" * 30, "/1g.10gb", *mutation.NAMES)
        )
        text = rng.choice((text[:at] + new + text[at:], text[:at] + text[at + 1 :], new + text))
    option = rng.choice(("--gpu", "--gpu", "--gpu-memory", "--headroom"))
    arguments = ["load", "gpt2", f"{option}={text}", "--json"]
    if option == "--headroom":
        arguments += ["--gpu", "4090"]
    return Case(arguments=arguments, form="json")


REFERENCES = (
    f"https://user:{PASSWORD}@127.0.0.1:1/model.gguf",
    f"https://127.0.0.1:1/model.safetensors?X-Amz-Signature={PASSWORD}&x=1",
    "hf://org/name@main/x.gguf",
    "org/name:Q4_K_M",
    "7B",
    "timm/resnet50.a1_in1k",
    "http://127.0.0.1:99999/model.gguf",
    "huggingface.co/org/name/tree/main/sub",
)


def references(rng, place):
    text = rng.choice(REFERENCES)
    secrets = (PASSWORD,)
    for _ in range(rng.choice((0, 1, 1, 3))):
        at = rng.randrange(len(text) + 1)
        if at < text.rfind(PASSWORD) + len(PASSWORD):  # what breaks the address is the user's own
            continue
        new = rng.choice(("@", ":", "/", "..", "%00", "%2e", "#", "?", "\x1b[2J", "é", "x" * 3000))
        text = text[:at] + new + text[at:]
    words = ["load", text, "--json"]
    return Case(arguments=words, form="json", secrets=secrets, waits=True)


Target = Callable[[Any, Place], Case]
TARGETS: dict[str, Target] = {
    made.__name__: made
    for made in (config, params, safetensors, names, index, small, gguf, pickled, bomb)
}
TARGETS |= {made.__name__: made for made in (hub, requests, launches, gpus, references)}


def targets() -> dict[str, Target]:
    """Return every target: those of this module, and those that are made of them."""
    from tests.hostile.more_cases import MORE

    return TARGETS | {made.__name__: made for made in MORE}
