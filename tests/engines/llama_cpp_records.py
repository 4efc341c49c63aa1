"""Logs of llama.cpp and ik_llama.cpp beside what we say from config, format and flags alone.

    python -m tests.engines.llama_cpp_records       every run: predicted, measured

Runs are those of shared/data/measurements/llamacpp_{ik,misc}.jsonl; a run's flags are in the thread
that its records name (cache types, what stays on the host), or follow from the log (a context of
several requests, a cache's type by its size). What is not predicted is listed with its reason.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

from tests.corpus import MODELS, ROOT
from weighbridge.base.dtypes import GGML_BY_NAME
from weighbridge.base.units import MIB
from weighbridge.engines.ik_llama_cpp import infer as ik_llama_cpp
from weighbridge.engines.llama_cpp import infer as llama_cpp
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

FILES = ("llamacpp_ik", "llamacpp_misc")
R1, QWEN, SMALL = "deepseek-r1", "qwen3-32b", "qwen3-0.6b"
LLAMA_LIKE = {"rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}
WRITTEN = {  # configs that the corpus lacks
    "GLM-Z1-32B": LLAMA_LIKE
    | {
        "architectures": ["Glm4ForCausalLM"], "model_type": "glm4", "hidden_size": 6144,
        "num_hidden_layers": 61, "num_attention_heads": 48, "num_key_value_heads": 2,
        "head_dim": 128, "intermediate_size": 23040, "vocab_size": 151552,
        "max_position_embeddings": 32768, "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False, "attention_bias": False,
    },
    "bge-small": {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384,
        "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536,
        "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2,
        "torch_dtype": "float32",
    },
    "bitnet-2B": LLAMA_LIKE
    | {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_size": 2560,
        "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5,
        "intermediate_size": 6912, "vocab_size": 128256, "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """`ids` of its records. `experts`: types of (gate and up, down) where a recipe has its own,
    and the mixture is that of nothing we know: sizes of weights are not compared then."""

    ids: str
    model: str = R1
    engine: str = "ik_llama.cpp"
    build: int = 3682
    format: str = "Q4_K_M"
    wider: tuple[int, ...] = ()  # layers whose down matrices of experts are Q4_K
    experts: tuple[str, str] | None = None
    weights: bool = True  # whether the mixture is the file's
    compute: bool = True
    asked: dict = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """ "ik-001..004" """
        first, _, last = self.ids.partition("..")
        head, number = first[:-3], int(first[-3:])
        return tuple(f"{head}{n:03}" for n in range(number, int(last or number) + 1))


FLASH = {"flash_attn": "on"}
FMOE = {"flash_attn": "on", "fused_moe": True}
HOST = {"n_gpu_layers": 0}
MOVED = {"override_tensor": ("exps=CPU",)}
CARDS = "5090+4090+4090+a6000"  # whose layers are said as they were dealt by what was free
DEALT = {"gpu": CARDS, "tensor_split": (15.0, 12.0, 12.0, 23.0)}
BY_NAME = (
    r"blk\.([0-7])\..*_exps\.=CUDA0", r"blk\.([8-9]|1[0-1])\..*_exps\.=CUDA1",
    r"blk\.(1[2-6])\..*_exps\.=CUDA2", r"blk\.(1[7-9]|2[0-6])\..*_exps\.=CUDA3", "exps=CPU",
)  # fmt: skip
FEEDS = (
    "blk.(0|1|2|3|4|5|6|7).ffn.=CUDA0", "blk.(8|9|10|11).ffn.=CUDA1", "blk.(12|13|14|15).ffn.=CUDA2",
    "blk.(16|17|18|19|20|21|22|23|24|25).ffn.=CUDA3", "ffn.*=CPU",
)  # fmt: skip
PACKED = ("Q4_K_R4", "Q4_K_R4")  # rows for the processor: -rtr, or the file's own
LONG = {"context": 32_768, "mla_attn": 3, "attn_max_b": 512, **FMOE, **MOVED}
Q8 = {"cache_type_k": "q8_0"}
BOTH = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}
SHORT = {"context": 2_048, "mla_attn": 2, "attn_max_b": 512, **FMOE, "parallel": 4}
OLD = {"context": 512, "n_batch": 512, "mla_attn": 0, "flash_attn": "off", **HOST}
RUNS = (
    Run(ids="ik-001..004", experts=PACKED, weights=False, asked=LONG | Q8),
    Run(ids="ik-005..008", experts=PACKED, weights=False, asked=LONG),
    Run(ids="ik-009..011", experts=PACKED, weights=False, asked=LONG),
    Run(
        ids="ik-012..015", experts=("IQ2_K", "IQ3_K"), weights=False, build=3700,
        asked=LONG | Q8 | {"n_batch": 4096, "ubatch_size": 2048},
    ),
    Run(ids="ik-020..022", experts=PACKED, weights=False, asked=LONG | Q8 | {"n_batch": 4096}),
    Run(
        ids="ik-023..025", experts=PACKED, weights=False,
        asked=LONG | {"n_batch": 4096, "ubatch_size": 4096},
    ),
    Run(
        ids="ik-026..028", experts=("IQ2_K", "IQ3_K"), weights=False, build=3700,
        asked=LONG | {"n_batch": 4096, "ubatch_size": 4096},
    ),
    Run(
        ids="ik-029..031", experts=("IQ4_K", "IQ5_K"), weights=False, build=3700,
        asked=LONG
        | {"n_batch": 4096, "ubatch_size": 2048}
        | {"override_tensor": (r"blk\.(3)\.ffn_.*=CUDA0", "exps=CPU")},
    ),
    Run(ids="ik-035..038", format="Q8_0", asked=OLD),
    Run(ids="ik-039..040", experts=PACKED, asked=SHORT | MOVED | Q8),
    Run(ids="ik-075..077", experts=PACKED, asked=SHORT | MOVED | Q8),
    Run(
        ids="ik-078..081", model=QWEN, format="Q5_K_M", build=3673,
        asked={"context": 8_192, "n_batch": 4096, "ubatch_size": 1024, "program": "server", **FLASH},
    ),
    Run(ids="ik-094..096", weights=False, build=3590, asked=SHORT),
    Run(
        ids="ik-097..099", engine="llama.cpp", build=4905, format="Q8_0",
        asked={"context": 2_048, "parallel": 4, "kv_unified": True, "flash_attn": "off", **HOST},
    ),
    Run(ids="ik-101..102", build=3588, asked=SHORT | HOST | {"attn_max_b": 2048}),
    Run(ids="ik-104..106", build=3599, asked=SHORT | HOST | Q8),
    Run(ids="ik-108..109", asked=OLD),
    Run(
        ids="ik-110..112",
        asked={"context": 32_768, "mla_attn": 3, "attn_max_b": 1024, **FMOE, **HOST, **Q8},
    ),
    Run(ids="ik-128..130", model="bitnet-2B", asked={"context": 4_096, "flash_attn": "off", **HOST}),
    Run(
        ids="ik-136..138", build=3671,
        asked={"context": 8_192, "mla_attn": 0, "parallel": 8, **FMOE, **HOST, **Q8},
    ),
    Run(
        ids="ik-152..154", model=QWEN, compute=False,
        asked={"context": 16_896, **FLASH, **BOTH},
    ),
    Run(
        ids="ik-175..178", model=QWEN, format="Q4_0", build=3760,
        asked={"context": 40_960, "flash_attn": "off", **HOST},
    ),
    Run(
        ids="ik-193..195", format="Q2_K", build=3576, compute=False,
        asked={"context": 32_768, "mla_attn": 2, "flash_attn": "off", "program": "server"},
    ),
    Run(
        ids="ik-196..198", format="Q2_K", build=3576,
        asked={
            "context": 163_840, "ubatch_size": 1024, "mla_attn": 2, "attn_max_b": 1024,
            "fused_moe": True, "flash_attn": "off", "gpu": "15xrtx-3090",
            "tensor_split": (6.0, *(4.0,) * 14),
        },
    ),
    Run(
        ids="ik-199..200", build=3588, compute=False,
        asked={"context": 2_048, "ubatch_size": 32, "mla_attn": 2, "flash_attn": "off"},
    ),
    Run(
        ids="ik-202..203", format="Q2_K", build=3589,
        asked={"context": 32_768, "mla_attn": 2, "attn_max_b": 2048, **FMOE, **MOVED, **Q8},
    ),
    Run(ids="ik-204..206", weights=False, compute=False, build=3592, asked=SHORT),
    Run(
        ids="ik-208..210",
        asked={"context": 16_896, "mla_attn": 3, "attn_max_b": 1024, **FMOE, **HOST, **Q8},
    ),
    Run(
        ids="ik-212..214",
        asked={"context": 16_384, "mla_attn": 3, "attn_max_b": 0, **FMOE, **HOST},
    ),
    Run(ids="ik-215..218", format="Q8_0", asked=OLD),
    Run(
        ids="ik-220..221",
        asked={"context": 32_768, "mla_attn": 3, "attn_max_b": 1024, **FMOE, **HOST, **Q8},
    ),
    Run(ids="ik-227..229", model="bitnet-2B", asked={"context": 4_096, "flash_attn": "off", **HOST}),
    Run(
        ids="ik-230..233", model="GLM-Z1-32B", engine="llama.cpp", build=5192, format="IQ4_XS",
        asked={"context": 5_120, **FLASH, **HOST, **BOTH},
    ),
    Run(
        ids="ik-234..237", model="GLM-Z1-32B", format="IQ4_XS",
        asked={"context": 5_120, **FLASH, **HOST, **BOTH},
    ),
    Run(
        ids="ik-238..240", model="GLM-Z1-32B", engine="llama.cpp", build=5192, format="IQ4_XS",
        asked={"context": 32_768, **FLASH},
    ),
    Run(
        ids="ik-241..243", model="GLM-Z1-32B", format="IQ4_XS",
        asked={"context": 32_768, **FLASH},
    ),
    # Unsloth's mixture: of the experts that the host has, 3 x 476 MiB more than with Q3_K alone
    Run(
        ids="ik-262..265", weights=False, build=3679, format="Q2_K", wider=(58, 59, 60),
        asked={
            "context": 16_384, "mla_attn": 1, "program": "server", **FMOE, **DEALT,
            "override_tensor": BY_NAME, "sched_max_copies": 1,
        },
    ),
    Run(
        ids="ik-266..269", weights=False, engine="llama.cpp", build=5331, format="Q2_K",
        wider=(58, 59, 60),
        asked={
            "context": 16_384, "ubatch_size": 1024, **FLASH, **DEALT, "override_tensor": BY_NAME,
        },
    ),
    Run(  # build 3682 with pull request 405, which is 3683
        ids="ik-270..272", weights=False, format="Q2_K", build=3683,
        asked={
            "context": 16_384, "ubatch_size": 1024, "mla_attn": 3, **FMOE, **DEALT,
            "override_tensor": FEEDS, "sched_max_copies": 1,
        },
    ),
    Run(ids="lc-017", engine="llama.cpp", build=11200, model="qwen3-8b", asked={"context": 8_192}),
    Run(
        ids="lc-018", engine="llama.cpp", build=11200, model="qwen3-8b",
        asked={"context": 8_192, **BOTH},
    ),
    Run(
        ids="lc-024", engine="llama.cpp", build=11200, format="F16", model="bge-small",
        asked={"context": 512, "flash_attn": "off"},
    ),
    Run(
        ids="lc-019..021", model=SMALL, format="Q6_K",
        asked={"context": 4_096, "flash_attn": "off", "program": "server", **HOST},
    ),
)  # fmt: skip
# What is not said, and why.
LEFT = {
    "ik-100": "kv_b alone in this file; the two that ik_llama.cpp makes of it are no line of the log",
    "ik-103": "as ik-100",
    "ik-107": "as ik-100",
    "ik-127": "F16 and I2_S, of Microsoft's converter",
    "ik-135": "as ik-100",
    "ik-153": "Vulkan",
    "ik-201": "as ik-100, and Unsloth's own mixture",
    "ik-207": "as ik-100",
    "ik-211": "IQ4_K with a recipe",
    "ik-219": "a recipe",
    "ik-226": "IQ2_BN",
    "lc-025": "before May 2025 encoders had a cache as well, which nothing read",
    "lc-026": "as lc-025: an older graph",
    "ik-255": "no config of this model is at hand; nor of ik-256 to 258",
}
IMATRIX = ("ik-175", "ik-230", "ik-234", "ik-238", "ik-241")  # quantized with one: other mixtures


@dataclass(frozen=True)
class Reading:
    id: str
    quantity: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


@cache
def records() -> dict[str, dict]:
    found = {}
    for name in FILES:
        path = ROOT / "measurements" / f"{name}.jsonl"
        if path.exists():
            found |= {r["id"]: r for r in map(json.loads, path.read_text().splitlines())}
    return found


@cache
def model(name: str):
    if name in WRITTEN:
        return resolve(gather_config(WRITTEN[name]))
    if name in catalogue.names():
        return resolve(gather_config(catalogue.find(name).config))
    return resolve(gather_config(json.loads((MODELS / name / "config.json").read_text())))


def held(run: Run) -> DeviceHoldings:
    plain = {"program": "cli", "parallel": 1, "batch_size": 1} | run.asked
    w = Infer(quantization=run.format, engine_version=str(run.build), **plain)
    kind = engine(run.engine)
    s = subject(model(run.model), w, kind, version(kind, w.engine_version)[0])
    package = llama_cpp if run.engine == "llama.cpp" else ik_llama_cpp
    found = package.hold(s, w, w.budget(), run.build)
    found = with_wider(found, run.wider)
    return found if run.experts is None else with_experts(found, *run.experts)


def with_wider(h: DeviceHoldings, layers: tuple[int, ...]) -> DeviceHoldings:
    """With down matrices of these layers' experts in Q4_K."""
    weights, kind = dict(h.net.weights), GGML_BY_NAME["Q4_K"]
    for name in (f"blk.{i}.ffn_down_exps.weight" for i in layers):
        t = weights[name]
        weights[name] = replace(t, dtype=kind, nbytes=kind.rows(t.ne[0], prod(t.ne)))
    return replace(h, net=replace(h.net, weights=weights)) if layers else h


def with_experts(h: DeviceHoldings, inner: str, outer: str) -> DeviceHoldings:
    """With experts of these types."""
    weights = {}
    for name, t in h.net.weights.items():
        kind = GGML_BY_NAME[outer if "down" in name else inner]
        size = kind.rows(t.ne[0], prod(t.ne))
        expert = "_exps.weight" in name
        weights[name] = replace(t, dtype=kind, nbytes=size) if expert else t
    return replace(h, net=replace(h.net, weights=weights))


def readings(run: Run) -> Iterator[Reading]:
    h = held(run)
    for name in run.names:
        record = records()[name]
        quantity = record["quantity"].split("_bytes")[0]
        if quantity == "weights" and run.weights:
            yield Reading(name, quantity, sum(h.weights) / MIB, record["value"])
        elif quantity == "kv":
            yield Reading(
                name, quantity, sum(map(h.kv, range(h.launch.gpus + 1))) / MIB, record["value"]
            )
        elif quantity == "output_buffer":
            yield Reading(name, quantity, h.output / MIB, record["value"])
        elif quantity == "compute_buffer" and run.compute:
            yield from compute(name, h, record)


def compute(name: str, h: DeviceHoldings, record: dict) -> Iterator[Reading]:
    parts = record.get("components", {}).get("compute_MiB", {"CPU": record["value"]})
    for device, value in parts.items():
        number = int(device[4:]) if device[4:].isdigit() else -1
        yield Reading(f"{name} {device}", "compute_buffer", h.compute[number] / MIB, value)


def all_readings() -> Iterator[Reading]:
    for run in RUNS:
        yield from readings(run)


if __name__ == "__main__":
    for r in all_readings():
        print(f"{r.id:18} {r.quantity:15} {r.predicted:12.2f} {r.measured:12.2f} {r.error:+8.3%}")
