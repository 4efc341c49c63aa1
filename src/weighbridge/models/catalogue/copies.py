"""Repositories in which a model of the catalogue is published in packed weights.

    Qwen/Qwen3-32B      awq-4bit-g128    Qwen/Qwen3-32B-AWQ

Each is linked in docs/source_en/Instruction/Supported-models-and-datasets.md of
github.com/modelscope/ms-swift at 3602360a5623. Left out are copies of which nothing here says
how their weights are packed (mixtures in AWQ), and FP8, which engines make while they load.
"""

from collections.abc import Mapping

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import Sentence, clauses, sentence
from weighbridge.models.catalogue.owners import PUBLISHED

AWQ, GPTQ, GPTQ_INT8 = "awq-4bit-g128", "gptq-4bit-g128", "gptq-8bit-g128"
INSTRUCT = "-Instruct"  # tunes with the shapes of their base

OF_ALL = (
    *(f"Qwen2-{size}-Instruct" for size in ("0.5B", "1.5B", "7B")),
    "Qwen2-VL-7B-Instruct",
    *(f"Qwen2.5-{size}-Instruct" for size in ("0.5B", "1.5B", "3B", "7B", "14B", "32B")),
)
QWEN: Mapping[str, tuple[str, tuple[str, ...]]] = {  # the end of the name -> format, models
    "AWQ": (
        AWQ,
        (*OF_ALL, "Qwen2.5-VL-7B-Instruct", *(f"Qwen3-{n}B" for n in (4, 8, 14, 32))),
    ),
    "GPTQ-Int4": (GPTQ, OF_ALL),
    "GPTQ-Int8": (GPTQ_INT8, OF_ALL),
}
LLAMA = {
    f"meta-llama/Llama-3.1-{size}-Instruct": {
        AWQ: f"hugging-quants/Meta-Llama-3.1-{size}-Instruct-AWQ-INT4",
        GPTQ: f"hugging-quants/Meta-Llama-3.1-{size}-Instruct-GPTQ-INT4",
    }
    for size in ("8B", "70B", "405B")
} | {
    f"meta-llama/Meta-Llama-3-{size}-Instruct": {
        AWQ: f"study-hjt/Meta-Llama-3-{size}-Instruct-AWQ",
        GPTQ: f"study-hjt/Meta-Llama-3-{size}-Instruct-GPTQ-Int4",
        GPTQ_INT8: f"study-hjt/Meta-Llama-3-{size}-Instruct-GPTQ-Int8",
    }
    for size in ("8B", "70B")
}


class Copy(NamedTuple):
    """A quantized repository, and the model that it is a copy of."""

    repo_id: str
    of: str

    @property
    def assumed(self) -> bool:
        """Return whether only the repository's name states its format."""
        return self.repo_id.partition("/")[0].lower() not in PUBLISHED

    @property
    def note(self) -> Sentence:
        """Return a sentence on which model was copied, and what of that is assumed."""
        copy = sentence("published", copy=self.repo_id, of=self.of)
        return clauses(copy, sentence("published.assumed") if self.assumed else "")


def packed_copy(repo_id: str, form: str) -> Copy | None:
    """Return the repository that has a model in that format, else the one of its instruct tune;
    None without either."""
    for of in (repo_id, repo_id + INSTRUCT):
        copy = COPIES.get(of, {}).get(form)
        if copy:
            return Copy(copy, of)
    return None


def _copies() -> Mapping[str, Mapping[str, str]]:
    copies: dict[str, dict[str, str]] = {}
    for end, (form, names) in QWEN.items():
        for name in names:
            copies.setdefault(f"Qwen/{name}", {})[form] = f"Qwen/{name}-{end}"
    return {**copies, **LLAMA}


COPIES = _copies()
PACKED = frozenset(copy.lower() for forms in COPIES.values() for copy in forms.values())
