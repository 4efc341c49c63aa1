"""Encoders, encoder-decoders and audio models against transformers' own classes, small configs.

Every class that transformers has for a model type is compared, in every variant: names, shapes,
counts and buffers.
"""

import importlib
import inspect
import json
import logging

import pytest

pytest.importorskip("torch", reason="the oracle is transformers' own build, which needs torch")
pytest.importorskip("transformers", reason="the oracle is transformers' own build")

from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name

from tests import corpus
from tests.cases import each
from tests.torch import oracle
from tests.torch.cases_encoders import CASES, T5, UNTIED

# No checkpoint names these: abstract bases, and halves that a whole model builds for itself.
INTERNAL = (
    "PretrainedModel",
    "PreTrainedModel",
    "ProphetNetEncoder",
    "ProphetNetDecoder",
    "TextToUnitModel",
    "TextToUnitForConditionalGeneration",
    "CodeHifiGan",
)
ABSTRACT = ("DPRPretrained", "Pretrained")
REFUSED = "does not support the use of"  # transformers' own classes raise so, and nothing is built


def classes(model_type):
    """Names of all classes that read the config of `model_type`."""
    module = importlib.import_module(f"transformers.models.{model_type_to_module_name(model_type)}")
    for name in dir(module):
        found = getattr(module, name)
        if not inspect.isclass(found) or not issubclass(found, PreTrainedModel):
            continue
        if name.endswith(INTERNAL) or name.startswith(ABSTRACT):
            continue
        if found.config_class is CONFIG_MAPPING[model_type]:
            yield name


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("transformers").setLevel(logging.ERROR)


def compared(raw):
    try:
        return oracle.differences(raw) + oracle.buffer_differences(raw)
    except ValueError as error:
        if REFUSED in str(error):
            return []
        raise


ALL = [(model_type, cls) for model_type in CASES for cls in classes(model_type)]


@pytest.mark.parametrize(("model_type", "cls"), each(3, ALL), ids=[cls for _, cls in ALL])
def test_every_class_in_every_variant(model_type, cls):
    base, variants = CASES[model_type]
    for variant in ({}, *variants):
        raw = {**base, **variant, "model_type": model_type, "architectures": [cls]}
        assert compared(raw) == [], f"{cls} with {variant}"


@pytest.mark.parametrize("model_type", ["t5", "mt5", "umt5", "longt5"])
def test_an_untied_t5_differs_from_its_class_by_the_lm_head_that_its_files_hold(model_type):
    """T5 1.1: tied as built from the config, untied once the checkpoint is loaded."""
    [stem] = {cls.split("ForCond")[0] for cls in classes(model_type) if "ForCond" in cls}
    raw = {**T5, **UNTIED, "model_type": model_type}
    raw["architectures"] = [f"{stem}ForConditionalGeneration"]
    lines = oracle.differences(raw)
    assert [line for line in lines if not line.startswith("parameters")] == [
        "invented: lm_head.weight (97, 24)"
    ]


def real():
    """Configs of these model types as published, also those of parts of pipelines."""
    defaults = corpus.MODELS / "_collections" / "transformers_defaults"
    for path in sorted((*corpus.MODELS.rglob("config.json"), *defaults.glob("[a-z]*.json"))):
        raw = json.loads(path.read_text())
        if raw.get("model_type") in CASES:
            yield pytest.param(raw, id=str(path.relative_to(corpus.MODELS)))


def separate_head(raw):
    """Whether the checkpoint holds an lm_head that the class would tie: T5 1.1 and Flan-T5."""
    return raw["model_type"] in ("t5", "mt5", "umt5") and raw.get("tie_word_embeddings") is False


@pytest.mark.skipif(not corpus.MODELS.exists(), reason="the corpus of real configs is not here")
@pytest.mark.parametrize("raw", each(3, real()))
def test_real_configs(raw):
    lines = oracle.differences(raw)
    if separate_head(raw):
        lines = [x for x in lines if not x.startswith(("invented: lm_head.weight", "parameters: "))]
    assert lines + oracle.buffer_differences(raw) == []
