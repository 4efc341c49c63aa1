"""Programs that were recorded: how their text is read, and what it comes to."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError
from weighbridge.pictures import components, recorded
from weighbridge.pictures.components import RECORDED
from weighbridge.pictures.config import ComponentConfig

K5 = {"_class_name": "Kandinsky5Transformer3DModel"}
KREA = {"_class_name": "Krea2Transformer2DModel"}
OMNIGEN = {"_class_name": "OmniGenTransformer2DModel"}


@all_of(
    ("text", "value"),
    [("7", 7), ("2*a", 6), ("a*b/4", 6), ("a+b/2+1", 8), ("a*b/a", 8), ("a*b/2/3", 4)],
)
def test_a_number_is_a_sum_of_products(text, value):
    assert recorded.number(text, {"a": 3, "b": 8}) == value


def test_numbers_of_a_config_are_those_of_its_lists_too():
    config = ComponentConfig({"width": 3, "axes": [4, 5], "name": "x", "both": True})
    assert config.numbers() == {"width": 3, "axes.0": 4, "axes.1": 5, "both": 1}


def test_a_line_says_what_it_makes_of_what_and_what_ends_with_it():
    step = recorded._step("4,5", "split", ["3", "dim=-1", "to=a,2*b", "-3", "-1"])
    assert (step.outs, step.ins, step.ends) == (("4", "5"), ("3",), ("3", "1"))
    assert step.words == {"dim": "-1", "to": "a,2*b"}


FORMS = [(cls, form) for cls in RECORDED for form in range(len(recorded._read(cls)))]


@all_of(("cls", "form"), FORMS)
def test_every_value_is_made_before_it_is_read_and_ends_once(cls, form):
    """In each program; a block's values are made anew for the next."""
    steps = recorded._read(cls)[form].steps
    held: set[str] = set()
    for step in steps:
        if step.op != "each":
            assert {*step.ins} <= held, step
        assert {*step.ends} <= held | {*step.outs}, step
        held = (held | {*step.outs}) - {*step.ends}
        if step.op == "next":
            held |= {one for loop in steps if loop.op == "each" for one in loop.ins}


@all_of(("cls", "form"), FORMS)
def test_every_operation_is_played(cls, form):
    structure = {"each", "leave", "next", "give"}
    known = {*recorded.RESULTS, *structure}
    assert {step.op for step in recorded._read(cls)[form].steps} <= known


def test_a_form_that_was_not_recorded_is_refused():
    with pytest.raises(UnsupportedError, match="attention_type=nabla"):
        components.declared({**K5, "attention_type": "nabla"})
    with pytest.raises(UnsupportedError, match="patch_size=4"):
        components.declared({**OMNIGEN, "patch_size": 4})
    with pytest.raises(UnsupportedError, match="num_attention_heads=12"):
        components.declared({**KREA, "num_attention_heads": 12})


def test_what_attention_saves_is_sent_between_two_lines_of_each():
    for cls, form in FORMS:
        sent = [s.words.get("what") for s in recorded._read(cls)[form].steps if s.op == "sends"]
        assert all(sent[::2]) and not any(sent[1::2]) and len(sent) % 2 == 0


def test_parameters_follow_the_config():
    """The whole is counted of diffusers 0.42's class on the meta device."""
    assert components.blueprint(OMNIGEN).parameters == 3_762_072_592
    two = components.blueprint({**OMNIGEN, "num_layers": 2}).parameters
    three = components.blueprint({**OMNIGEN, "num_layers": 3}).parameters
    width, inside = 3072, 8192
    assert three - two == 4 * width * width + 3 * width * inside + 2 * width


def test_a_form_has_its_own_lines_and_those_of_all(tmp_path, monkeypatch):
    lines = ["forms 2", "@2 needs each=True", "0 given . to=batch", "@1 1 view 0 to=1", ". give 0"]
    (tmp_path / "Two.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    monkeypatch.setattr(recorded, "NETS", str(tmp_path))
    first, second = recorded._read("Two")
    assert [step.op for step in first.steps] == ["given", "view", "give"]
    assert ([step.op for step in second.steps], second.needs) == (["given", "give"], ["each=True"])
    assert first.needs == []
