"""Models with the shapes of another, and an id and a context of their own.

What an alias would lose: which repository is launched, and how long its texts may be. A tune that
differs in more, in its format or in its sizes, is an entry of the catalogue.

Positions: `max_position_embeddings` of the repository's config.json, or the context that its card
calls native; None where the base's are the same.
"""

from collections.abc import Mapping

from weighbridge.base.records import NamedTuple


class Tune(NamedTuple):
    base: str  # the entry whose shapes it has
    repo_id: str
    positions: int | None = None


R1, DISTILLED = "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1-Distill"
CODER_2 = "deepseek-ai/DeepSeek-Coder-V2"
QWEN_3_2507 = 262_144  # native, of all cards of July 2025; Qwen3-30B-A3B-Thinking-2507 in maxtext
# config.json of Qwen/Qwen2.5-Coder-32B-Instruct at b47205940b83; cards of the others: 32,768
QWEN_CODER = 32_768

TUNES: Mapping[str, Tune] = {
    # cards of the models at huggingface.co, which name their base
    "deepseek-coder-v2-lite": Tune("deepseek-v2-lite", f"{CODER_2}-Lite-Instruct"),
    "deepseek-coder-v2-236b": Tune("deepseek-v2", f"{CODER_2}-Instruct"),
    "deepseek-v3-0324": Tune("deepseek-v3", "deepseek-ai/DeepSeek-V3-0324"),
    # config.json in github.com/aliyun/SimAI at cef83f9ddd96
    "deepseek-r1-0528": Tune("deepseek-r1", f"{R1}-0528"),
    # config.json of the one with 32B in github.com/ai-dynamo/aiconfigurator: 131,072, as the bases
    "deepseek-r1-distill-qwen-7b": Tune("qwen2.5-7b", f"{DISTILLED}-Qwen-7B"),
    "deepseek-r1-distill-qwen-14b": Tune("qwen2.5-14b", f"{DISTILLED}-Qwen-14B"),
    "deepseek-r1-distill-qwen-32b": Tune("qwen2.5-32b", f"{DISTILLED}-Qwen-32B"),
    "deepseek-r1-distill-llama-8b": Tune("llama-3.1-8b", f"{DISTILLED}-Llama-8B"),
    "deepseek-r1-distill-llama-70b": Tune("llama-3.3-70b", f"{DISTILLED}-Llama-70B"),
    "deepseek-r1-0528-qwen3-8b": Tune("qwen3-8b", f"{R1}-0528-Qwen3-8B", 131_072),
    # doc/source/models/builtin/llm/glm-4.6.rst of github.com/xorbitsai/inference; config.json of
    # zai-org/GLM-4.7-FP8 in github.com/ai-dynamo/aiconfigurator at a0ba9ec6d14e
    "glm-4.6": Tune("glm-4.5", "zai-org/GLM-4.6", 202_752),
    "glm-4.7": Tune("glm-4.5", "zai-org/GLM-4.7", 202_752),
    # config.json of each in github.com/ai-dynamo/aiconfigurator at 095f58a51c4c
    "glm-5.1": Tune("glm-5", "zai-org/GLM-5.1"),
    "glm-5.2": Tune("glm-5", "zai-org/GLM-5.2", 1_048_576),
    "minimax-m2.5": Tune("minimax-m2", "MiniMaxAI/MiniMax-M2.5"),
    "minimax-m2.7": Tune("minimax-m2", "MiniMaxAI/MiniMax-M2.7", 204_800),
    # their cards: on Mistral Small 3.1's text decoder, which has the shapes of 2501, to 40,960
    # tokens; the later one on Mistral Small 3.2, with its tower
    "magistral-small-2506": Tune("mistral-small-24b", "mistralai/Magistral-Small-2506", 40_960),
    "magistral-small-2509": Tune("mistral-small-3.2-24b", "mistralai/Magistral-Small-2509"),
    # its card: an update of 3.1, whose shapes it has
    "mistral-small-3.1-24b": Tune(
        "mistral-small-3.2-24b", "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    ),
    "qwen3-4b-instruct-2507": Tune("qwen3-4b", "Qwen/Qwen3-4B-Instruct-2507", QWEN_3_2507),
    "qwen3-4b-thinking-2507": Tune("qwen3-4b", "Qwen/Qwen3-4B-Thinking-2507", QWEN_3_2507),
    "qwen3-30b-a3b-instruct-2507": Tune(
        "qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B-Instruct-2507", QWEN_3_2507
    ),
    "qwen3-30b-a3b-thinking-2507": Tune(
        "qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B-Thinking-2507", QWEN_3_2507
    ),
    "qwen3-235b-a22b-instruct-2507": Tune(
        "qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B-Instruct-2507", QWEN_3_2507
    ),
    "qwen3-235b-a22b-thinking-2507": Tune(
        "qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B-Thinking-2507", QWEN_3_2507
    ),
    # Qwen3-Coder-30B-A3B-Instruct/README.md of github.com/ztxz16/fastllm, a copy of its card
    "qwen3-coder-30b-a3b": Tune("qwen3-30b-a3b", "Qwen/Qwen3-Coder-30B-A3B-Instruct", 262_144),
    # ai/qwen3-coder-next-vllm.md of github.com/docker/model-runner: all shapes of Qwen3-Next
    "qwen3-coder-next": Tune("qwen3-next-80b-a3b", "Qwen/Qwen3-Coder-Next"),
    "qwen3-next-80b-a3b-thinking": Tune("qwen3-next-80b-a3b", "Qwen/Qwen3-Next-80B-A3B-Thinking"),
    # configs/qwq-32B-eagle3.json of github.com/sgl-project/SpecForge at a6b6b0230009
    "qwq-32b": Tune("qwen2.5-32b", "Qwen/QwQ-32B", 40_960),
    "qwen2.5-coder-0.5b": Tune("qwen2.5-0.5b", "Qwen/Qwen2.5-Coder-0.5B-Instruct", QWEN_CODER),
    "qwen2.5-coder-1.5b": Tune("qwen2.5-1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct", QWEN_CODER),
    "qwen2.5-coder-3b": Tune("qwen2.5-3b", "Qwen/Qwen2.5-Coder-3B-Instruct", QWEN_CODER),
    "qwen2.5-coder-7b": Tune("qwen2.5-7b", "Qwen/Qwen2.5-Coder-7B-Instruct", QWEN_CODER),
    "qwen2.5-coder-14b": Tune("qwen2.5-14b", "Qwen/Qwen2.5-Coder-14B-Instruct", QWEN_CODER),
    "qwen2.5-coder-32b": Tune("qwen2.5-32b", "Qwen/Qwen2.5-Coder-32B-Instruct", QWEN_CODER),
    "vicuna-7b": Tune("llama-2-7b", "lmsys/vicuna-7b-v1.5"),
    "vicuna-13b": Tune("llama-2-13b", "lmsys/vicuna-13b-v1.5"),
    "zephyr-7b": Tune("mistral-7b-v0.1", "HuggingFaceH4/zephyr-7b-beta"),
}

# Instructed models with fewer positions than their base: config.json of Qwen/Qwen2.5-72B-Instruct
# says 32,768, and so do the cards of all; logs of vLLM have tables of as many for 7B and 14B
POSITIONS: Mapping[str, int] = dict.fromkeys(
    (f"Qwen/Qwen2.5-{size}B-Instruct" for size in ("1.5", "7", "14", "32", "72")), 32_768
)

# Tags of Ollama's library -> what they have been since August 2025. Read of 30b-a3b: README.md of
# github.com/QwenLM/Qwen3 ("points to qwen3:30b-a3b-thinking-2507-q4_K_M as of August 2025"); of the
# other sizes that have such a build it is assumed. Tags with a format (qwen3:30b-a3b-q4_K_M) and
# sizes without one (8b, 14b, 32b) are the models of April
TAGS: Mapping[str, str] = {
    "qwen3:4b": "qwen3-4b-thinking-2507",
    "qwen3:30b": "qwen3-30b-a3b-thinking-2507",
    "qwen3:30b-a3b": "qwen3-30b-a3b-thinking-2507",
    "qwen3:235b": "qwen3-235b-a22b-thinking-2507",
    "qwen3:235b-a22b": "qwen3-235b-a22b-thinking-2507",
}

# Everyday name of a tune -> its name above. Sizes: what `latest` is at ollama.com/library.
SHORT: Mapping[str, str] = {
    "deepseek-coder-v2": "deepseek-coder-v2-lite",
    "deepseek-coder-v2-16b": "deepseek-coder-v2-lite",
    "deepseek-r1-7b": "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-8b": "deepseek-r1-0528-qwen3-8b",
    "deepseek-r1-14b": "deepseek-r1-distill-qwen-14b",
    "deepseek-r1-32b": "deepseek-r1-distill-qwen-32b",
    "deepseek-r1-70b": "deepseek-r1-distill-llama-70b",
    "magistral": "magistral-small-2506",  # of 2506, as Ollama's tags (24b)
    "magistral-24b": "magistral-small-2506",
    "magistral-24b-small-2506": "magistral-small-2506",
    "magistral-24b-small-2509": "magistral-small-2509",
    "magistral-small": "magistral-small-2509",  # the newest
    "magistral-small-24b": "magistral-small-2509",
    "mistral-small-3.1": "mistral-small-3.1-24b",
    "qwen2.5-coder": "qwen2.5-coder-7b",
    "qwen3-4b-2507": "qwen3-4b-instruct-2507",
    "qwen3-30b-a3b-2507": "qwen3-30b-a3b-instruct-2507",
    "qwen3-235b-a22b-2507": "qwen3-235b-a22b-instruct-2507",
    "qwen3-coder": "qwen3-coder-30b-a3b",
    "qwen3-coder-30b": "qwen3-coder-30b-a3b",
    "qwq": "qwq-32b",
    "vicuna": "vicuna-7b",
    "zephyr": "zephyr-7b",
}


def find(name: str) -> Tune | None:
    """Return the tune of a name in hyphens, as it is or by its everyday one."""
    return TUNES.get(SHORT.get(name, name))
