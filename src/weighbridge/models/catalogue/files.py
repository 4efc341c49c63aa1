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

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import Sentence, clauses, sentence

ROWS = [row.split() for row in lines_beside(__file__, "files.txt")]
GGUF: Mapping[str, str] = {model: row[0] for kind, model, *row in ROWS if kind == "gguf"}
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
    model: (name, tuple(map(int, bits))) for kind, model, name, *bits in ROWS if kind == "mlx"
}
GROUP = 64  # of mlx-community's: mlx_lm.convert's default
MLX = frozenset(  # in lower case
    f"mlx-community/{name}-{n}bit".lower() for name, bits in MLX_BITS.values() for n in bits
)


class PublishedFile(NamedTuple):
    """A repository with files to download, the model in them, and whether they are only inferred
    from the owner's other repositories."""

    repo_id: str
    of: str
    assumed: bool

    @property
    def note(self) -> Sentence:
        """Return a sentence on the model in the files, and what of that is assumed."""
        tuned = self._tuned and not INSTRUCTED.search(self.of)
        key = "files_hold.instructed" if tuned else "files_hold"
        holds = sentence(key, repo=self.repo_id, of=self.of)
        return clauses(holds, sentence("files_hold.assumed") if self.assumed else "")

    @property
    def _tuned(self) -> bool:
        return INSTRUCTED.search(self.repo_id) is not None


INSTRUCTED = re.compile(r"(?i)-(instruct|it)(?=$|[-:])")


def gguf_of(repo_id: str, form: str) -> PublishedFile | None:
    """Return the repository that has a model's GGUF file in that format, as `-hf` takes it; None
    without one."""
    repository = GGUF.get(repo_id)
    if repository is None or form not in _formats(repository):
        return None
    assumed = repository not in LISTED
    return PublishedFile(f"{repository}:{TYPED.get(form, form)}", repo_id, assumed)


def _formats(repository: str) -> tuple[str, ...]:
    return LISTED.get(repository) or FORMATS[repository.partition("/")[0]]


def has_gguf(repo_id: str, form: str) -> bool:
    """Return whether launch lines use `repo_id` for GGUF files of that format."""
    named = (repository for repository in GGUF.values() if repository.lower() == repo_id.lower())
    return any(form in _formats(repository) for repository in named)


def mlx_of(repo_id: str, form: str) -> PublishedFile | None:
    """Return the repository that has a model in an MLX format; None without one."""
    name, bits = MLX_BITS.get(repo_id, ("", ()))
    known = {f"mlx-{n}bit-g{GROUP}": n for n in bits}
    if form not in known:
        return None
    return PublishedFile(f"mlx-community/{name}-{known[form]}bit", repo_id, assumed=False)
