"""The form has every setting of the tables, in both languages, and offers what is taken."""

import os
import re
import subprocess
import sys
from itertools import product

import pytest

from tests.cases import all_of
from weighbridge.answers.questions.fit.request import MAX
from weighbridge.base.memory import LEVEL_OF
from weighbridge.engines.table import ENGINES
from weighbridge.faces.api import prepare
from weighbridge.faces.view.parts import ROLES
from weighbridge.faces.web.form import form, label, section
from weighbridge.faces.web.server import PAGE
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import instances, parts
from weighbridge.models import catalogue
from weighbridge.models.catalogue import listing, pipelines
from weighbridge.models.checkpoint.gather import has_name
from weighbridge.workload import FIT, INFER, LOAD, TRAIN, engines_of
from weighbridge.workload.train import LEARNS, PROMPTS, REWARDS, TUNERS

TABLES = {"fit": FIT, "load": LOAD, "infer": INFER, "train": TRAIN}
LANGUAGES = ("en", "zh")
TABS = [tab["name"] for tab in form("en")["tabs"]]


def settings(name, lang="en"):
    tab = next(tab for tab in form(lang)["tabs"] if tab["name"] == name)
    return [setting for section in tab["sections"] for setting in section["settings"]]


def setting(tab, name):
    return next(one for one in settings(tab) if one["name"] == name)


@pytest.mark.parametrize("name", TABLES)
def test_a_tab_has_every_setting_once(name):
    found = [one["name"] for one in settings(name)]
    assert len(found) == len(set(found))
    assert set(found) - set(TABLES[name]) <= {"revision", "command", "for", "max", "smallest"}
    assert set(TABLES[name]) <= set(found)


@all_of(("lang", "name"), product(LANGUAGES, TABS))
def test_every_setting_has_a_name_and_a_sentence(name, lang):
    for one in settings(name, lang):
        assert one["label"]
        assert one["help"].endswith((".", "。", "……")), one
        chinese_signs = re.search("[\u4e00-\u9fff]", one["label"] + one["help"])
        assert bool(chinese_signs) == (lang == "zh"), one


def test_every_section_has_a_title_in_chinese():
    for tab in form("zh")["tabs"]:
        for one in tab["sections"]:
            assert one["label"].casefold() == one["name"].casefold() or re.search(
                "[\u4e00-\u9fff]", one["label"]
            ), one


def test_the_engines_are_named_where_one_is_chosen():
    said = INFER["engine"]
    first, *others, last = ENGINES
    assert said.help == f"{', '.join((f'{first} (default)', *others))} or {last}."
    assert all(name.casefold() in said.zh.casefold() for name in ENGINES)


def test_names_within_a_tab_differ():
    """But for those of which only one is shown: each engine has its own."""
    for lang in LANGUAGES:
        for tab in TABS:
            seen = {}
            for one in settings(tab, lang):
                other = seen.setdefault(one["label"], one)
                apart = set(other["engines"] or ENGINES).isdisjoint(one["engines"] or ENGINES)
                assert other is one or apart, (one["name"], other["name"])


def test_defaults_are_values_and_their_sentences_name_them():
    assert setting("infer", "engine")["default"] == "transformers"
    assert setting("infer", "context")["default"] == 4096
    assert setting("train", "seq_len")["default"] == 2048
    assert setting("train", "optimizer")["default"] == "adamw_torch_fused"
    for tab, table in TABLES.items():
        for one in settings(tab):
            if one["default"] is not None:
                assert table[one["name"]].value(one["default"]) == one["default"]
    assert [one["default"] for one in settings("infer") if one["name"] == "kv_cache_dtype"] == [
        None
    ]


def test_sliders_move_within_what_is_taken():
    for tab, table in TABLES.items():
        for one in settings(tab):
            if one["slider"] is not None:
                for end in ("least", "most"):
                    table[one["name"]].value(one["slider"][end])
    assert MAX["users"][0] == "batch_size"  # what users are, here and for --max


def test_what_is_relevant_to_an_engine_is_that_of_the_table():
    for one in settings("infer"):
        if one["name"] in INFER:
            assert tuple(one["engines"]) == engines_of(INFER[one["name"]])
    assert setting("fit", "tensor_parallel_size")["engines"] == []  # training has it too
    linears = [name for name in TUNERS if name not in PROMPTS]
    adapted = ["lora", "qlora", "dora", *linears, *LEARNS]
    assert setting("train", "lora_r")["when"] == {"method": adapted}
    assert setting("train", "virtual_tokens")["when"] == {"method": [*PROMPTS]}


def test_roles_and_rollouts_are_shown_for_their_methods():
    assert setting("train", "kl_beta")["when"] == {"method": [*LEARNS]}
    assert setting("train", "rollout_tp")["when"] == {"method": [*REWARDS]}
    assert setting("train", "critic")["when"] == {"method": ["ppo"]}
    assert {"kl_beta", "rollout_tp"}.isdisjoint(one["name"] for one in settings("fit"))
    sections = {one["label"] for tab in form("en")["tabs"] for one in tab["sections"]}
    assert {"Rewards and preferences", "Rollout"} <= sections


def test_conditions_name_settings_of_their_tab():
    for tab in TABLES:
        known = {one["name"]: one for one in settings(tab)}
        for one in known.values():
            for name, values in (one["when"] or {}).items():
                assert set(values) <= set(known[name]["choices"])


def test_every_model_of_the_catalogue_is_offered_with_its_size():
    offered = form("en")["models"]
    asked_for = [entry.name for entry in listing.ordered(catalogue.search(""))]
    counted = catalogue.parameters()
    with_tree = [name for name in pipelines.names() if name in counted]
    assert [m["name"] for m in offered] == [*asked_for, *with_tree]
    assert {*asked_for} == {*catalogue.names()}
    for model in offered[::40]:
        assert model["parameters"] == prepare(model["name"]).model().parameters
    assert all(has_name(spelled) for model in offered for spelled in model["spellings"])


def test_every_card_is_offered_and_each_spelling_is_understood():
    offered = {gpu["name"]: gpu for gpu in form("en")["gpus"]}
    assert set(offered) == {*parts(), *instances()}
    assert "4090" in offered["nvidia-geforce-rtx-4090"]["spellings"]
    for name, gpu in offered.items():
        meant = instances()[name].part if name in instances() else name
        for spelled in gpu["spellings"]:
            assert find(spelled).part.id == meant


def test_the_rest_is_what_the_tables_have():
    found = form("zh")
    assert found["lang"] == "zh"
    assert [e["name"] for e in found["engines"]] == list(ENGINES)
    assert set(found["parts"]) == set(LEVEL_OF)


def test_what_stands_in_one_answer_has_colours_of_its_own():
    styles = form("en")["styles"]
    served = [styles[key] for key in ("weights", "kv_cache", "activations", "allocator", "logits")]
    trained = [styles[key] for key in styles if key not in ("kv_cache", *ROLES)]
    assert len(set(served)) == len(served)
    assert len(set(trained)) == len(trained)


def test_every_part_has_a_colour_of_its_own_in_all_pictures():
    found = form("en")
    parts = {*found["parts"].values(), *ROLES} - {"other"}
    assert parts == found["styles"].keys()
    css = (PAGE / "style.css").read_text()
    assert all(f".s{style} {{ fill:" in css for style in found["styles"].values())


@pytest.mark.slow
def test_every_process_makes_the_same_form():
    """Sets of texts have another order in each process; nothing that is shown may follow it."""
    program = "from weighbridge.faces.web.form import form; print(form('en'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def test_what_has_values_of_others_offers_them():
    """Formats and optimizers have names of their own; every other word is typed, or a choice."""
    named = {
        tab["name"]: {
            one["name"] for part in tab["sections"] for one in part["settings"] if one["known"]
        }
        for tab in form("en")["tabs"]
    }
    both = {"quantization", "optimizer"}
    assert named == {
        "fit": both,
        "load": {"quantization"},
        "infer": {"quantization"},
        "train": both,
        "image": {"quantization"},
        "train_image": both,
        "compare": set(),
        "registry": set(),
        "gpus": {"vendor"},
        "oom": set(),
        "models": {"quantization"},
        "accuracy": {"engine", "source"},
    }
    assert {"nf4", "Q4_K_M"} <= set(setting("load", "quantization")["known"])
    assert {"adamw_torch", "adamw_8bit"} <= set(setting("train", "optimizer")["known"])


def test_each_language_has_its_own_names():
    """English is of ASCII; in Chinese only names that are nobody's words are."""
    for english, chinese in zip(form("en")["tabs"], form("zh")["tabs"], strict=True):
        assert english["label"].isascii() and not chinese["label"].isascii()
    assert [form(lang)["tabs"][0]["sections"][0]["label"] for lang in ("en", "zh")] == [
        "Main",
        "主要设置",
    ]
    for name in ("context", "dtype", "gpu_memory"):
        assert section(INFER[name], "en") == INFER[name].section
        assert not section(INFER[name], "zh").isascii()
    assert label(TRAIN["batch_size"], "zh") == "每卡批大小"
    assert label(INFER["context"], "zh") == "上下文(token)"


def test_a_card_is_one_and_a_machine_has_several():
    offered = {gpu["name"]: gpu for gpu in form("en")["gpus"]}
    assert all(offered[name]["count"] == 1 for name in parts())
    for name, machine in instances().items():
        assert offered[name]["count"] == machine.count
        assert offered[name]["memory"] == parts()[machine.part].visible.bytes.low


def test_the_page_knows_every_command_by_its_first_word():
    known = form("en")["launches"]
    assert {
        "vllm",
        "sglang",
        "llama-server",
        "llama-cli",
        "mlx_lm.server",
    } <= {*known["words"]}
    assert not {"docker", "bash", "python", "accelerate"} & {*known["words"]}  # read as texts
    assert any(re.search(one, "ollama run llama3.1:8b") for one in known["snippets"])
    assert not any(re.search(one, "llama-3.1-8b") for one in known["snippets"])


def test_what_is_asked_beside_a_message():
    tab = next(one for one in form("en")["tabs"] if one["name"] == "oom")
    names = [s["name"] for section in tab["sections"] for s in section["settings"]]
    assert names == ["gpu", "engine", "context", "method", "seq_len", "batch_size"]
