"""Records of model types: each word is known, each fact is read, and names stand in families."""

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from tools import model_types as writer
from tools.syntax import nodes

import weighbridge
from tests.cases import all_of
from weighbridge.engines.transformers.step import OWN_WAYS, ClassStyle
from weighbridge.models.arch import blueprint, config, mixers, parts
from weighbridge.models.arch.cache_layers import READERS
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import (
    NEVER,
    NOTHING,
    Difference,
    LlamaCppFacts,
    MlxFacts,
    ModelType,
    SglangFacts,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
    all_types,
    differs,
    facts,
    index,
    program_facts,
)

SOURCE = Path(weighbridge.__file__).parent
TEXTS = {p: p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py")}
NAMES = {
    "Family": blueprint.Family,
    "Config": config.Config,
    "Attention": parts.Attention,
    "Layer": mixers.Layer,
    "images": images,
    "sounds": sounds,
}
TYPES = all_types()
PROGRAMS = ("training", "transformers", "vllm", "sglang", "llama_cpp", "mlx")


def test_the_index_is_as_the_families_say():
    assert writer.TARGET.read_text(encoding="utf-8") == writer.written(), "run `make records`"


def test_a_type_stands_in_one_file(monkeypatch):
    twice = [("llama", {"llama": NOTHING}), ("other", {"llama": NOTHING})]
    monkeypatch.setattr(writer, "with_types", lambda: iter(twice))
    with pytest.raises(ValueError, match="llama: in llama and in other"):
        writer.written()


def test_one_question_imports_one_family():
    assert facts("llama").family is import_module("weighbridge.models.arch.families.llama").LLAMA
    assert facts("of no row") is NOTHING
    assert index()["modules"]["llama"] == "llama"


# What mypy says of a wrong word, without mypy


def fits(value, kind):
    """Whether a value is of an annotated type."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return isinstance(value, tuple) and all(fits(v, inner[0]) for v in value)
        return isinstance(value, tuple) and all(
            fits(*pair) for pair in zip(value, inner, strict=True)
        )
    if get_origin(kind) is Callable:
        return callable(value)
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(isinstance(k, str) for k in value)
    if get_args(kind):
        return any(fits(value, one) for one in get_args(kind))
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


def wrong(record):
    """Fields of a record, and of those inside, whose values are not of their types."""
    for name, kind in get_type_hints(type(record), localns=NAMES).items():
        value = getattr(record, name)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            yield from wrong(value)
        elif not fits(value, kind):
            yield name, value


@pytest.mark.slow
@all_of("model_type", TYPES)
def test_every_fact_is_one_that_its_field_may_have(model_type):
    known = TYPES[model_type]
    assert [w for of in (known, *(getattr(known, n) for n in PROGRAMS)) for w in wrong(of)] == []


@all_of("program", PROGRAMS)
def test_programs_know_types_of_our_tables(program):
    """Each row says something, of a type that a family has, and a type stands once."""
    text = (SOURCE / f"models/arch/facts/{program}.json").read_text()
    rows = program_facts(program)
    assert rows.keys() <= index()["modules"].keys()
    assert list(rows) == sorted(rows) and text.count('": {') == len(rows)
    assert all(rows.values())


@all_of(
    ("record", "field"),
    [
        (ModelType(computes=("unheard_of",)), "computes"),
        (ModelType(no_cache="encode"), "no_cache"),
        (ModelType(windows="everywhere"), "windows"),
        (VllmFacts(tied_head="fred"), "tied_head"),
        (TransformersFacts(sdpa="4.36"), "sdpa"),
        (SglangFacts(attention="triton"), "attention"),
        (ModelType(beside_patches=True), "beside_patches"),
    ],
)
def test_a_wrong_fact_is_found(record, field):
    assert [name for name, _ in wrong(record)] == [field]


def test_named_programs_and_readers_are_there():
    assert {known.layers for known in TYPES.values() if isinstance(known.layers, str)} == {
        "",
        *READERS,
    }
    for model_type, known in TYPES.items():
        if known.training.net:
            module, _, function = known.training.net.partition(".")
            place = import_module(f"weighbridge.training.forward.nets.{module}")
            net = getattr(place, function)
            assert callable(getattr(net, "forward", net)), model_type


def test_rules_are_functions_of_the_config_alone():
    """A window rule says as many kinds as there are layers."""
    for model_type, known in TYPES.items():
        if known.windows is not None:
            keys = {"num_hidden_layers": 12, "max_window_layers": 4, "sliding_window": 64}
            kinds = known.windows(config.Config({"model_type": model_type, **keys}))
            assert len(kinds) == 12, model_type


# Each fact is read


ROOMS = {  # beside the engines, the re-enacted classes read what training and transformers do
    TrainingFacts: ("training",),
    TransformersFacts: ("transformers", "forward"),
    VllmFacts: ("vllm",),
    SglangFacts: ("sglang",),
    LlamaCppFacts: ("llama_cpp",),
    MlxFacts: ("mlx",),
}


@pytest.mark.house
@pytest.mark.parametrize("record", [ModelType, *ROOMS], ids=lambda kind: kind.__name__)
def test_each_fact_is_read(record):
    """Facts of an engine are read below its folder, those of model types in general in `arch`."""
    rooms = ROOMS.get(record, ("arch",))
    texts = [t for p, t in TEXTS.items() if {*rooms} & {*p.parts} and p.name != "model_types.py"]
    for name in record._fields:
        if record is not ModelType or name not in ("computes", "name"):
            assert any(re.search(rf"\.{name}\b", text) for text in texts), name


def test_each_difference_is_one_that_a_class_has_and_another_module_asks_for():
    words = set(get_args(Difference))
    assert {word for known in TYPES.values() for word in known.computes} == words
    for word in words - OWN_WAYS:
        assert any(f'"{word}")' in text for text in TEXTS.values()), word
    assert words > OWN_WAYS and {*get_type_hints(ClassStyle)} > OWN_WAYS
    assert differs("bert", "norms_behind") and not differs("llama", "norms_behind")


def test_releases_are_compared_as_numbers():
    assert (4, 9) < (4, 10) < NEVER
    assert facts("mistral").transformers.sdpa == (4, 37)
    assert facts("of no row").transformers.sdpa == (4, 36)


# Files that may spell a model type outside of TYPES, and why
SPELLERS = {
    "models/arch/gguf_layers.py": "GGUF architectures, some of which are called as model types",
    "engines/llama_cpp/graphs/architectures.py": "GGUF architectures",
    "engines/ollama/layer_formula.py": "GGUF architectures, by which its formulas go",
    "engines/ollama/rules.py": "GGUF architectures",
    "models/formats/mistral_params.py": "turns a params.json into the config of a model type",
    "models/catalogue/__init__.py": "what transformers calls a network of timm",
    "models/catalogue/owners.py": "owners of repositories",
    "pictures/components.py": "modules of programs",
    "pictures/nets/pyramids.py": "modules of programs, which are called as model types",
    "pictures/seeing.py": "modules of programs, which are called as model types",
    "answers/estimate/images.py": "timm's names of networks whose default sizes are told",
    "files/runfiles/serving/workflow.py": "words of files' names, of text encoders",
    "training/unsloth.py": "Unsloth's table of the classes that it publishes copies of",
}
ORDINARY = {  # model types that are words of another meaning, too
    "mamba": "the path of a mixer, the kind of a layer",
    "bitnet": "a format",
    "opt": "an optimizer",
    "Klear": "how the names of classes begin",
    "semantic": "the half of a codec that has meanings",
    "ultralytics": "a library",
    "torchvision": "a library",
}
PATHS = ("base", "bases")  # keywords whose values are paths of modules, called as the model type


def _records(text):
    """All that stands within the TYPES of a family."""
    for node in nodes(text, ast.Assign):
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id == "TYPES":
            yield from ast.walk(node)


@cache
def every_type():
    return frozenset(TYPES)


def _spelled(text):
    """Model types among the words of strings that are not prose or paths, and among keywords."""
    at_home = set(_records(text))
    keywords = list(nodes(text, ast.keyword))
    paths = {
        c.value
        for k in keywords
        if k.arg in PATHS
        for c in ast.walk(k.value)
        if isinstance(c, ast.Constant)
    }
    known = every_type() - set(ORDINARY) - paths
    yield from (k.arg for k in keywords if k.arg in known and k not in at_home)
    for node in nodes(text, ast.Constant):
        if isinstance(node.value, str) and node not in at_home:
            words = node.value.split()
            found = [word for word in words if word in known]
            if 2 * len(found) >= len(words):
                yield from found


@pytest.mark.house
def test_model_types_are_spelled_in_their_families():
    spelled = {str(path.relative_to(SOURCE)): set(_spelled(text)) for path, text in TEXTS.items()}
    spelled = {path: words for path, words in spelled.items() if words}
    assert {path: words for path, words in spelled.items() if path not in SPELLERS} == {}
    assert set(spelled) == set(SPELLERS), "a file of the list spells none: take it off"


def test_the_test_of_spelling_can_fail():
    code = (
        'FEW = "gemma2 qwen3 some"\nmake(base="vit", phi3=1)\nSAY = "gemma2 is what you asked for"'
        '\nTYPES = {"mistral": ModelType()}'
    )
    assert set(_spelled(code)) == {"gemma2", "qwen3", "phi3"}
