"""Repositories that hold files of a model for programs of a home: nobody has to convert one then.

    Qwen/Qwen3-8B      Q4_K_M, llama.cpp and Ollama    unsloth/Qwen3-8B-GGUF
    Qwen/Qwen3-8B      4 bit, MLX                      mlx-community/Qwen3-8B-4bit

The instructed tune's files come before those of a base, since people chat with them.

Sources: gallery/index.yaml of github.com/mudler/LocalAI at 82c191afadf5 and
llmfit-core/data/hf_models.json of github.com/AlexsJones/llmfit at a3e0eb27c57f (GGUF), cards of
github.com/exo-explore/exo at b5375f8cee43 and that file (MLX). Which formats a repository has is by
its owner (assumed: those that are in each of the owner's that we saw); LISTED has those that a
source names file by file.
"""

import re
from collections.abc import Mapping

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import Sentence, clauses, sentence

GGUF: Mapping[str, str] = {
    "CohereForAI/aya-23-8B": "bartowski/aya-23-8B-GGUF",
    "Qwen/Qwen2.5-7B": "bartowski/Qwen2.5-7B-Instruct-GGUF",
    "Qwen/Qwen2.5-14B": "bartowski/Qwen2.5-14B-Instruct-GGUF",
    "Qwen/Qwen3-0.6B": "unsloth/Qwen3-0.6B-GGUF",
    "Qwen/Qwen3-1.7B": "unsloth/Qwen3-1.7B-GGUF",
    "Qwen/Qwen3-4B": "unsloth/Qwen3-4B-GGUF",
    "Qwen/Qwen3-8B": "unsloth/Qwen3-8B-GGUF",
    "Qwen/Qwen3-14B": "unsloth/Qwen3-14B-GGUF",
    "Qwen/Qwen3-32B": "unsloth/Qwen3-32B-GGUF",
    "Qwen/Qwen3-30B-A3B": "unsloth/Qwen3-30B-A3B-GGUF",
    "Qwen/Qwen3.5-9B": "unsloth/Qwen3.5-9B-GGUF",
    "Qwen/Qwen3.5-27B": "unsloth/Qwen3.5-27B-GGUF",
    "Qwen/Qwen3.6-27B": "unsloth/Qwen3.6-27B-GGUF",
    "Qwen/Qwen3.6-35B-A3B": "unsloth/Qwen3.6-35B-A3B-GGUF",
    "Qwen/Qwen3.8-27B": "ggml-org/Qwen3.8-27B-GGUF",
    "deepseek-ai/DeepSeek-R1": "unsloth/DeepSeek-R1-GGUF",
    "google/gemma-4-E4B": "ggml-org/gemma-4-E4B-it-GGUF",
    "google/gemma-4-31B": "unsloth/gemma-4-31B-it-GGUF",
    "meta-llama/Llama-3.1-8B": "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
    "meta-llama/Llama-3.2-1B": "bartowski/Llama-3.2-1B-Instruct-GGUF",
    "meta-llama/Llama-3.2-3B": "bartowski/Llama-3.2-3B-Instruct-GGUF",
    "meta-llama/Llama-3.3-70B-Instruct": "unsloth/Llama-3.3-70B-Instruct-GGUF",
    "mistralai/Mistral-Nemo-Instruct-2407": "bartowski/Mistral-Nemo-Instruct-2407-GGUF",
    "mistralai/Mistral-Small-24B-Instruct-2501": ("bartowski/Mistral-Small-24B-Instruct-2501-GGUF"),
    "openai/gpt-oss-120b": "ggml-org/gpt-oss-120b-GGUF",
    "openai/gpt-oss-20b": "ggml-org/gpt-oss-20b-GGUF",
    "zai-org/GLM-4.7-Flash": "unsloth/GLM-4.7-Flash-GGUF",
}
WIDE = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
FORMATS: Mapping[str, tuple[str, ...]] = {"bartowski": WIDE, "unsloth": WIDE}
LISTED: Mapping[str, tuple[str, ...]] = {
    "ggml-org/Qwen3.8-27B-GGUF": ("Q4_K_M", "Q8_0"),
    "ggml-org/gemma-4-E4B-it-GGUF": ("BF16", "Q4_K_M"),
    "ggml-org/gpt-oss-120b-GGUF": ("MXFP4_MOE",),
    "ggml-org/gpt-oss-20b-GGUF": ("MXFP4_MOE",),
}
TYPED = {"MXFP4_MOE": "MXFP4"}  # as the names of files have it

MLX_BITS: Mapping[str, tuple[str, tuple[int, ...]]] = {  # model -> name there, bits
    "Qwen/Qwen3-0.6B": ("Qwen3-0.6B", (4, 8)),
    "Qwen/Qwen3-1.7B": ("Qwen3-1.7B", (4,)),
    "Qwen/Qwen3-4B": ("Qwen3-4B", (4,)),
    "Qwen/Qwen3-8B": ("Qwen3-8B", (4,)),
    "Qwen/Qwen3-30B-A3B": ("Qwen3-30B-A3B", (4, 8)),
    "Qwen/Qwen3.5-9B": ("Qwen3.5-9B", (4, 8)),
    "Qwen/Qwen3.5-27B": ("Qwen3.5-27B", (4, 8)),
    "Qwen/Qwen3.5-35B-A3B": ("Qwen3.5-35B-A3B", (4, 8)),
    "Qwen/Qwen3.5-122B-A10B": ("Qwen3.5-122B-A10B", (4, 6, 8)),
    "Qwen/Qwen3.6-27B": ("Qwen3.6-27B", (4, 8)),
    "Qwen/Qwen3.6-35B-A3B": ("Qwen3.6-35B-A3B", (4, 8)),
    "google/gemma-4-31B": ("gemma-4-31b-it", (4, 6, 8)),
    "meta-llama/Llama-3.1-8B": ("Meta-Llama-3.1-8B-Instruct", (4, 8)),
    "meta-llama/Llama-3.1-70B": ("Meta-Llama-3.1-70B-Instruct", (4,)),
    "meta-llama/Llama-3.2-1B": ("Llama-3.2-1B-Instruct", (4,)),
    "meta-llama/Llama-3.2-3B": ("Llama-3.2-3B-Instruct", (4, 8)),
    "meta-llama/Llama-3.3-70B-Instruct": ("Llama-3.3-70B-Instruct", (4, 8)),
    "zai-org/GLM-4.7-Flash": ("GLM-4.7-Flash", (4, 5, 6, 8)),
}
GROUP = 64  # of mlx-community's: mlx_lm.convert's default


class PublishedFile(NamedTuple):
    """Files that a program is told to fetch, the model that they hold, and whether nothing but the
    owner's other repositories says that they are there."""

    repo_id: str
    of: str
    assumed: bool

    @property
    def note(self) -> Sentence:
        """Say which model the files hold, and what of that is assumed."""
        tuned = self._tuned and not INSTRUCTED.search(self.of)
        key = "files_hold.instructed" if tuned else "files_hold"
        holds = sentence(key, repo=self.repo_id, of=self.of)
        return clauses(holds, sentence("files_hold.assumed") if self.assumed else "")

    @property
    def _tuned(self) -> bool:
        return INSTRUCTED.search(self.repo_id) is not None


INSTRUCTED = re.compile(r"(?i)-(instruct|it)(?=$|[-:])")


def gguf_of(repo_id: str, form: str) -> PublishedFile | None:
    """Return the repository that has a GGUF file of a model in that format, as `-hf` takes it."""
    repository = GGUF.get(repo_id)
    if repository is None:
        return None
    listed = LISTED.get(repository)
    if form not in (listed or FORMATS[repository.partition("/")[0]]):
        return None
    return PublishedFile(f"{repository}:{TYPED.get(form, form)}", repo_id, listed is None)


def mlx_of(repo_id: str, form: str) -> PublishedFile | None:
    """Return the repository that has a model in a format of MLX."""
    name, bits = MLX_BITS.get(repo_id, ("", ()))
    known = {f"mlx-{n}bit-g{GROUP}": n for n in bits}
    if form not in known:
        return None
    return PublishedFile(f"mlx-community/{name}-{known[form]}bit", repo_id, assumed=False)
