"""The models that are weighed: real headers around holes, from configs of the catalogue."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sparse import as_tensors, write_repo

from weighbridge.base.units import ceil_div
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.catalogue import find

Tensors = dict[str, tuple[str, tuple[int, ...]]]
BLOCK = 128  # of DeepSeek-V3's FP8: one scale for 128 x 128 values
DEEPSEEK_FP8 = (".self_attn.", ".mlp.")
MTP_NORMS = ("enorm", "hnorm", "shared_head.norm")
NOT_FP8 = ("norm.weight", "mlp.gate.weight", "e_score_correction_bias")


def llama(folder: Path, name: str, *, shards: int) -> Path:
    """A Llama of the catalogue as it was published: bfloat16."""
    config = dict(find(name).config)
    return write_repo(folder, config, blueprint(Config(config)), shards=shards)


def llama_70b(folder: Path) -> Path:
    """Llama 3.1 70B as it was published: bfloat16, 30 shards, 723 tensors."""
    return llama(folder, "llama-3.1-70b", shards=30)


def deepseek_v3(folder: Path, *, shards: int = 163, layers: int = 61) -> Path:
    """DeepSeek-V3 as it was published: FP8 with its scales, and the MTP layer; 91,991 tensors."""
    config = {**find("deepseek-v3").config, "num_hidden_layers": layers}
    return write_repo(folder, config, deepseek_tensors(config), shards=shards)


def deepseek_tensors(config: dict[str, Any]) -> Tensors:
    """The class's tensors, the MTP layer that it does not load, and the scales of both."""
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    plan = blueprint(Config(config))
    biases = {b.name: ("F32", b.shape) for b in plan.buffers if b.persistent}
    tensors = as_tensors(plan) | biases
    last, mtp = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
    extra = {
        name.replace(last, mtp): tensor for name, tensor in tensors.items() if name.startswith(last)
    }
    norms = {f"{mtp}{name}.weight": ("BF16", (width,)) for name in MTP_NORMS}
    own = {
        f"{mtp}embed_tokens.weight": tensors["model.embed_tokens.weight"],
        f"{mtp}eh_proj.weight": ("BF16", (width, 2 * width)),
        f"{mtp}shared_head.head.weight": tensors["lm_head.weight"],
    }
    return dict(_with_scales(tensors | extra | norms | own))


def _with_scales(tensors: Tensors) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    for name, (dtype, shape) in tensors.items():
        if any(part in name for part in DEEPSEEK_FP8) and not name.endswith(NOT_FP8):
            yield name, ("F8_E4M3", shape)
            scale = tuple(ceil_div(length, BLOCK) for length in shape)
            yield f"{name}_scale_inv", ("F32", scale)
        else:
            yield name, (dtype, shape)


def headers_of(folder: Path) -> list[int]:
    """Bytes of each header in a folder, its length included."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            found.append(8 + int.from_bytes(file.read(8), "little"))
    return found
