"""Two programs tell one forward: they agree to 2 %, type by type, or the list says why not."""

import pytest

from tests.engines.forwards import kind, models, served, trained
from weighbridge.training.nets import NETS

MODELS = models()
WITHIN = 0.02
# Types whose two programs are not compared yet
LATER = {
    *(
        "albert",
        "mpnet",
        "deberta-v2",
        "exaone4",
        "falcon_mamba",
        "jamba",
        "mamba",
        "mamba2",
        "mpt",
    ),
    *("nemotron_h", "olmo2", "olmo3", "persimmon", "qwen3_5", "qwen3_5_moe", "granitemoehybrid"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, raw in MODELS.items() if kind(raw) not in LATER])
def test_eager_attention_is_told_alike(name):
    there, here = trained(MODELS[name], "eager"), served(MODELS[name], "eager")
    assert abs(here / there - 1) <= WITHIN, f"{here:,} beside {there:,}"


def test_every_type_with_a_program_is_compared():
    missing = set(NETS) - {kind(raw) for raw in MODELS.values()}
    assert missing == {"camembert", "qwen", "bamba", "lfm2_moe"}  # as their kin in the list


def test_every_expert_of_llama_4_works_on_every_token():
    """16 experts x 1,024 tokens x (2 x 8,192 + 8,192 + 5,120) numbers at once, and more."""
    raw = MODELS["llama-4-scout"]
    assert served(raw, None) > 2 * 16 * 1024 * (3 * 8192 + 5120)
