"""Which pipeline stage holds what: the bounds of the layers, and where the rest goes.

    vllm      layers // stages, the remainder from the last but one backwards
    sglang    layers // stages, the remainder to the last ones

What comes before the layers is on the first stage, what comes after on the last. A head that is
tied to the embedding makes a second copy of it there. Many classes build the embedding or the
head on every stage.

Source: vllm 0.33 distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION) and the
get_pp_group() of model_executor/models/*.py; sglang 0.5.23 srt/distributed/utils.py and
srt/models/*.py.
"""

from collections.abc import Callable

from weighbridge.errors import UsageError

Bounds = Callable[[int, int], tuple[int, ...]]  # of (layers, stages)


def vllm(layers: int, stages: int) -> tuple[int, ...]:
    sizes = [layers // stages] * stages
    for i in range(2, layers % stages + 2):
        sizes[-i] += 1
    return _bounds(sizes)


def sglang(layers: int, stages: int) -> tuple[int, ...]:
    rest = layers % stages
    return _bounds([layers // stages + (i >= stages - rest) for i in range(stages)])


def given(partition: tuple[int, ...], layers: int, stages: int) -> tuple[int, ...]:
    """The environment variables of both engines: layers of each stage."""
    if len(partition) != stages or sum(partition) != layers:
        raise UsageError(
            f"layers by stage {','.join(map(str, partition))} do not make {layers} layers "
            f"in {stages} stages"
        )
    return _bounds(list(partition))


def _bounds(sizes: list[int]) -> tuple[int, ...]:
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return tuple(ends)


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Model types whose class makes the embedding, or the head, on every stage.
VLLM_EMBEDDING = _set(
    """
    bloom chatglm cohere cohere2 cohere2_moe dbrx falcon gemma gemma2 gemma3_text gemma4_text gpt2
    gptj gpt_oss granitemoe granitemoehybrid granitemoeshared hy_v3 internlm2 jamba lfm2 lfm2_moe
    mamba mamba2 minicpm minicpm3 mixtral molmo nemotron_h olmo_hybrid olmoe opt orion phi3_v
    phimoe qwen2_moe qwen3_moe qwen3_next qwen3_5_text qwen3_5_moe_text qwen3_vl_moe_text stablelm
    """
)
VLLM_HEAD = VLLM_EMBEDDING - _set("lfm2 lfm2_moe qwen3_5_text qwen3_5_moe_text")
SGLANG_EMBEDDING = _set("bailing_moe falcon_h1 lfm2 lfm2_moe minimax_m2 opt phi starcoder2")
SGLANG_HEAD = _set(
    """
    apertus arcee bailing_moe bailing_moe_v2 exaone_moe falcon_h1 glm4_moe glm4_moe_lite gpt_oss
    granitemoehybrid lfm2 lfm2_moe llama mistral mixtral nemotron-nas opt phi phi3 qwen2_moe
    qwen3_moe starcoder2
    """
)
