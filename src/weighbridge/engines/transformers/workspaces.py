"""Workspaces that libraries keep beside tensors: cuBLAS, and kernels of packed weights.

    cuBLAS    kernels/workspaces.py; taken at the first product and kept, up to torch 2.13
    GPTQ      exllama of AutoGPTQ unpacks into one buffer of the largest matrix in float16; its
              second version also has float32 rows for 8 x 2,048 tokens of the widest output. Which
              of them runs is the checkpoint's to say, or the loader's: transformers takes the first
              where a config says nothing, AutoGPTQ 0.5 to 0.7 the second. Published readings are of
              both (Qwen2.5 of the first, Qwen1.5 of the second). GPTQModel, which takes its place,
              multiplies by Marlin's kernels from compute capability 8.0 on, which keep nothing, and
              by the second version of exllama on older cards

Source: AutoGPTQ 0.7 modeling/_utils.py
(autogptq_post_init) and nn_modules/qlinear/qlinear_exllamav2.py (scratch_space).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component
from weighbridge.base.records import replace
from weighbridge.engines.transformers.rules import has_auto_gptq
from weighbridge.machines.kernels import workspaces as kernels
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

ROWS = 8 * 2048  # rows of exllama's second version: sequences x tokens
MARLIN = (8, 0)


HIP = Bytes(kernels.USUAL, kernels.LARGE, 4 * kernels.LARGE)  # 128 MiB on gfx94, as far as known


def products(part: "Part | None", torch: tuple[int, ...] | None) -> tuple[Component, ...]:
    """Return the workspace of that part's matmul library; none for other stacks."""
    if part is not None and part.stack == "own":
        return ()
    workspace = cublas(None if part is None else part.capability, torch)
    if part is None or part.stack == "cuda":
        return (workspace,)
    return (
        replace(
            workspace,
            detail="hipBLAS",
            bytes=HIP._replace(low=min(HIP.low, workspace.bytes.low)),
            formula="one workspace, whose size the architecture decides",
        ),
    )


def cublas(capability: tuple[int, int] | None, torch: tuple[int, ...] | None) -> Component:
    """Return the cuBLAS workspaces of one process; `capability` is None without a named CUDA
    device."""
    version = torch or kernels.NEWEST
    size = kernels.product(capability[0] if capability else None, version)
    low = 0 if version >= kernels.TRANSIENT_SINCE else size
    high = size if capability else kernels.LARGE
    return Component(
        name="workspaces",
        detail="cuBLAS",
        bytes=Bytes(low, size, high),
        basis="computed" if capability else "assumed",
        formula=f"one workspace on compute capability {_written(capability)}",
        source="torch aten/src/ATen/cuda/CublasHandlePool.cpp",
    )


def _written(capability: tuple[int, int] | None) -> str:
    return "8 (none was named)" if capability is None else "{}.{}".format(*capability)


def gptq(
    part: ModelPart, scheme: str, version: tuple[int, int], capability: tuple[int, int] | None
) -> Component | None:
    if not scheme.startswith("gptq-4bit"):
        return None
    if not has_auto_gptq(version):
        return _gptqmodel(part, capability)
    largest, widest = _matrices(part)
    config = (part.quantization or {}).get("exllama_config")
    said = config.get("version") if isinstance(config, Mapping) else None
    rows = 4 * ROWS * widest
    low, high = largest + (rows if said == 2 else 0), largest + (0 if said == 1 else rows)
    return Component(
        name="workspaces",
        detail="exllama",
        bytes=Bytes(low, low, high),
        basis="assumed" if said is None else "computed",
        formula="the largest matrix in float16"
        + ("" if said == 1 else ", and rows in float32" if said else ", with version 2 rows too"),
        source="AutoGPTQ 0.7 modeling/_utils.py, autogptq_post_init",
    )


def _gptqmodel(part: ModelPart, capability: tuple[int, int] | None) -> Component | None:
    """Return GPTQModel's workspace: none if Marlin runs; without a named card, either."""
    if capability is not None and capability >= MARLIN:
        return None
    largest, widest = _matrices(part)
    whole = largest + 4 * ROWS * widest
    return Component(
        name="workspaces",
        detail="exllama",
        bytes=Bytes(0, 0, whole) if capability is None else Bytes(whole, whole, whole),
        basis="assumed" if capability is None else "computed",
        formula="the largest matrix in float16, and rows in float32; none on compute capability "
        "8.0 and newer",
        source="GPTQModel nn_modules/qlinear/exllamav2.py (scratch_space_fixed)",
    )


def _matrices(part: ModelPart) -> tuple[int, int]:
    """Return (bytes of the largest matrix in float16, the most outputs of any)."""
    return memo(part, ("matrices",), lambda: _largest(part.blueprint.counted))


def _largest(params: tuple[Param, ...]) -> tuple[int, int]:
    matrices = [p for p in params if p.kind in ("linear", "expert") and not p.name.endswith(HEADS)]
    largest = max((p.numel for p in matrices), default=0)
    return 2 * largest, max((p.shape[0] for p in matrices), default=0)


HEADS = ("lm_head.weight", "embed_out.weight", "output_layer.weight")
