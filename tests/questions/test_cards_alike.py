"""Answers about cards that are alike share what was made, and are those that each has alone.

The cards are those of the catalogue, and made-up ones of which each differs from an H100 in one
thing that a record of cards says: a fact that is read and not noted would give one the other's."""

import json

import pytest

from tests.cases import each
from weighbridge import Infer, prepare
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.memory import exactly
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.engines.vllm import cases, components
from weighbridge.machines.accelerators import budget as budgets
from weighbridge.machines.accelerators import seen
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.accelerators.names import DeviceChoice, find
from weighbridge.machines.accelerators.parts import MemoryFigure, Part, parts
from weighbridge.machines.accelerators.seen import KeptByCard, SeenCard
from weighbridge.models import catalogue

DENSE, MIXED = "qwen3-0.6b", "1x4090+1x3090"
VLLM = {"engine": "vllm", "context": 8192}
# (model of the catalogue, settings), the first of which people wait for
CASES = (
    (DENSE, VLLM),
    ("gpt-oss-20b", {**VLLM, "batch_size": 64}),
    ("llama-3.1-8b", {**VLLM, "batch_size": 16, "context": 32768}),
    ("llama-3.1-8b", {**VLLM, "engine_version": "0.8.5"}),
    ("llama-3.1-8b", {**VLLM, "engine_version": "0.19", "engine_defaults": True}),
    ("deepseek-v2-lite", VLLM),
    ("gemma-3-4b", {**VLLM, "images": 2}),
    (DENSE, {**VLLM, "max_num_seqs": 1}),
    ("mamba-2.8b", VLLM),
    ("llama-3.1-8b", {"engine": "sglang", "context": 8192, "batch_size": 4}),
    ("gpt-oss-20b", {"engine": "sglang"}),
    ("llama-3.1-8b", {"engine": "transformers", "context": 4096}),
    ("bert-base-uncased", {"engine": "transformers"}),
    ("llama-3.1-8b", {"engine": "llama.cpp", "quantization": "Q4_K_M"}),
    ("llama-3.1-8b", {"engine": "mlx", "quantization": "4bit"}),
)
SHARED = (  # over several cards: (settings, cards)
    ({**VLLM, "tensor_parallel_size": 2}, ("{}:2",)),
    ({**VLLM, "pipeline_parallel_size": 2}, ("{}:2", "{}+3090", "3090+{}")),
)


def told(model, settings, gpu):
    """All that an answer says, or why there is none."""
    try:
        return json.dumps(model.briefly(Infer(gpu=gpu, **settings)).to_dict())
    except WeighbridgeError as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
def alone(monkeypatch):
    """Answer a question with nothing that another card has left."""

    def answer(model, settings, gpu):
        with monkeypatch.context() as patch:
            patch.setattr(KeptByCard, "of", lambda kept, question, card, make: make(SeenCard(card)))
            return told(model, settings, gpu)

    return answer


def config(name):
    return prepare(catalogue.find(name).config)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), each(5, CASES))
def test_cards_of_the_catalogue_together_and_alone(name, settings, alone):
    """From the last to the first, and then from the first: so that each is once the one whose
    answer others get, and once one that gets it."""
    model, other = config(name), config(name)
    backwards = [told(model, settings, gpu) for gpu in reversed(parts())]
    forwards = [told(model, settings, gpu) for gpu in parts()]
    assert backwards[::-1] == forwards == [alone(other, settings, gpu) for gpu in parts()]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "cards"), SHARED)
def test_several_cards_together_and_alone(settings, cards, alone):
    model, other = config(DENSE), config(DENSE)
    asked = [gpu.format(part) for part in list(parts())[::8] for gpu in cards]
    together = [told(model, settings, gpu) for gpu in asked]
    assert together == [alone(other, settings, gpu) for gpu in asked]


H100 = find("h100").part


def memory(size):
    return MemoryFigure(exactly(size), "read", "made up")


# Cards that are an H100 but for one thing
CHANGED = {
    "itself": {},
    "id": {"id": "another"},
    "name": {"name": "NVIDIA A100 of another name"},
    "vendor": {"vendor": "AMD"},
    "kind": {"kind": "apu"},
    "marketed_gb": {"marketed_gb": 24},
    "capability": {"compute_capability": "8.9"},
    "blackwell": {"compute_capability": "10.0"},
    "old": {"compute_capability": "7.5"},
    "no capability": {"compute_capability": None},
    "total": {"total": memory(24 * GIB)},
    "visible": {"visible": memory(24 * GIB)},
    "large": {"visible": memory(180 * GIB)},
    "context": {"context": (777, "made up")},
    "no context": {"context": None},
    "no chip": {"chip": None, "context": None},
    "multiprocessors": {"chip": Chip((9, 0), 66, 50)},
    "multiprocessors alone": {"chip": Chip((9, 0), 66, 50), "context": None},
    "cache": {"chip": Chip((9, 0), 132, 96)},
    "capability of the chip": {"chip": Chip((8, 6), 132, 50)},
    "bandwidth": {"bandwidth": None},
    "nvlink": {"nvlink": None},
    "bridge": {"nvlink": "bridge"},
    "mig": {"mig": ()},
    "slices": {"slices": {}},
    "year": {"year": 1999},
}
MADE = {f"made-up {name}": replace(H100, **change) for name, change in CHANGED.items()}


@pytest.fixture
def made_up(monkeypatch):
    """Let --gpu name the cards that are made up, too: one of a kind, or two."""

    def named(text):
        name, _, count = text.partition(":")
        if name in MADE:
            return DeviceChoice(part=MADE[name], count=int(count or 1))
        return find(text)

    monkeypatch.setattr(budgets, "find", named)
    return list(MADE)


ONE_CARD = (
    VLLM,
    {**VLLM, "engine_version": "0.19", "batch_size": 8},
    {"engine": "sglang", "context": 4096},
    {"engine": "transformers"},
    {"engine": "llama.cpp", "quantization": "Q4_K_M"},
)
ON_TWO = {**VLLM, "tensor_parallel_size": 2}


@pytest.mark.slow
@pytest.mark.parametrize("settings", ONE_CARD, ids=lambda settings: settings["engine"])
def test_cards_that_differ_in_one_thing(settings, made_up, alone):
    model, other = config(DENSE), config(DENSE)
    together = [told(model, settings, gpu) for gpu in made_up + made_up[::-1]]
    each_alone = [alone(other, settings, gpu) for gpu in made_up]
    assert together == each_alone + each_alone[::-1]


@pytest.mark.slow
def test_two_cards_that_differ_in_one_thing(made_up, alone):
    model, other = config(DENSE), config(DENSE)
    pairs = [f"{name}:2" for name in made_up]
    together = [told(model, ON_TWO, gpu) for gpu in pairs + pairs[::-1]]
    each_alone = [alone(other, ON_TWO, gpu) for gpu in pairs]
    assert together == each_alone + each_alone[::-1]


def test_each_thing_that_a_record_says_of_a_card_is_changed_in_one():
    """But for its other names."""
    changed = {field for change in CHANGED.values() for field in change}
    assert {*Part.__slots__} - changed == {"also_sold_as", "aliases"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("context", VLLM),
        ("_by_memory", VLLM),
        ("cache", {**VLLM, "max_num_seqs": 1}),
        ("_stacks", {**VLLM, "engine_version": "0.19"}),
        ("_communicator", ON_TWO),
    ],
)
def test_a_fact_that_is_read_and_not_noted_is_found(rule, settings, made_up, alone, monkeypatch):
    """The tests above fail without it. Of other facts cards are apart by one of these, too."""
    says = SeenCard.says

    def forgets(card, asked):
        said = says(card, asked)
        if asked.rule.__name__ == rule:
            card._notes.pop(asked, None)
        return said

    asked = [gpu + (":2" if settings is ON_TWO else "") for gpu in made_up]
    other = config(DENSE)
    each_alone = [alone(other, settings, gpu) for gpu in asked]
    monkeypatch.setattr(SeenCard, "says", forgets)
    model = config(DENSE)
    assert [told(model, settings, gpu) for gpu in asked] != each_alone


@pytest.mark.slow
def test_what_is_made_for_the_cards_that_vllm_serves_on(monkeypatch):
    """Kernels are followed for a third of them, and no two that need the same are made twice but
    where an L2 cache that is no matter differs."""
    walked, held = [], []
    stand, phases = cases.standing_of, components._phases
    monkeypatch.setattr(cases, "standing_of", lambda *at: walked.append(at) or stand(*at))
    monkeypatch.setattr(components, "_phases", lambda at: held.append(at) or phases(at))
    model, needs = config("llama-3.1-8b"), []
    for gpu in parts():
        try:
            needs.append(model.briefly(Infer(gpu=gpu, **VLLM)).peak)
        except WeighbridgeError:
            continue
    assert needs
    # Where a card of ROCm stands and whether it has memory of its own are facts that tell cards apart
    assert len(walked) <= len(needs) / 3
    assert len(set(needs)) <= len(held) <= 0.6 * len(needs)
    assert sum(memo_of(model.model())._counts.values()) < seen.MOST, "all of them are kept"


def memo_of(record):
    return vars(record)["_memos"][("by card",)]
