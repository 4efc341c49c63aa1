"""A setting is one record: what an instance reads, and what each face derives of it."""

import pickle
from copy import copy

import click
import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.words import entries
from weighbridge.engines.launch.record import flags
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.engines.table import ENGINES
from weighbridge.engines.vllm.settings import Vllm
from weighbridge.faces.agents.tools import setting_schema
from weighbridge.faces.cli.questions import options
from weighbridge.faces.web.form import form
from weighbridge.settings.setting import (
    MOST,
    Bool,
    Int,
    LaunchFlag,
    Setting,
    Settings,
    Str,
    Switch,
    count,
    fields,
    flag,
    launched,
    spelled,
    switch,
    whole,
    word,
)
from weighbridge.workload import TABLES, Infer, Train, engines_of

EVERY = [(task, name) for task, table in TABLES.items() for name in table]


class Toy(Settings):
    """Some kinds."""

    TITLE = "Toy"
    lot: Int = whole(1, 8, flags=("-l",))
    long: Int = count(2)
    kind: Str = word("Left", "right")
    chooses: Bool = flag()
    off: Switch = switch()


class Other(Toy):
    """One more, and one that is said otherwise."""

    more: Int = whole()
    lot: Int = Toy.lot.but(launch=spelled("--lots", plain=("auto",)))


def test_what_was_not_said_is_none_and_a_switch_is_off():
    toy = Toy()
    assert (toy.lot, toy.kind, toy.chooses, toy.off) == (None, None, None, False)
    assert dict(toy.said) == {}


def test_zero_and_false_are_said_and_none_is_not():
    toy = Toy(lot=0, chooses=False, off=False, long=None)
    assert dict(toy.said) == {"lot": 0, "chooses": False}
    assert (toy.lot, toy.chooses) == (0, False)


def test_settings_are_equal_by_what_was_said():
    assert Toy(lot=1, off=True) == Toy(off=True, lot=1) != Toy(lot=1)
    assert hash(Toy(lot=1, off=True)) == hash(Toy(off=True, lot=1))
    assert Toy(lot=1) != Other(lot=1)
    assert repr(Toy(lot=1)) == "Toy(lot=1)"


def test_others_are_made_and_none_takes_back():
    toy = Toy(lot=1, long=9)
    assert toy.but(lot=None, off=True) == Toy(long=9, off=True)
    assert dict(toy.said) == {"lot": 1, "long": 9}
    for same in (copy(toy), pickle.loads(pickle.dumps(Infer(context=8)))):
        assert same in (toy, Infer(context=8))


def test_nothing_is_set_and_no_other_name_is_taken():
    with pytest.raises(AttributeError, match="lot: settings are not changed"):
        Toy().lot = 3
    with pytest.raises(TypeError, match="Toy has no setting 'lots'"):
        Toy(lots=3)


def test_on_the_class_it_is_the_record():
    assert (Toy.lot.name, Toy.lot.flag, Toy.lot.least, Toy.lot.most) == ("lot", "--lot", 1, 8)
    assert (Toy.off.section, Toy.off.unset, Toy.lot.unset) == ("Toy", False, None)
    assert (Other.lot.worded, Toy.lot.worded) == (("Other.lot", "Toy.lot"), ("Toy.lot",))
    assert Toy.lot.help == ""
    assert Other.lot.owner is Toy is Other.lot.but().owner


def test_fields_are_those_of_the_parents_first():
    assert list(fields(Other)) == ["lot", "long", "kind", "chooses", "off", "more"]
    assert fields(Other)["lot"] is Other.lot is not Toy.lot


@all_of(
    ("setting", "given", "says"),
    [
        (Toy.lot, 0, "--lot is at least 1, not 0"),
        (Toy.lot, 9, "--lot is at most 8, not 9"),
        (Toy.lot, "x", "--lot is a whole number, not 'x'"),
        (Toy.kind, "up", "--kind is one of Left, right, not 'up'"),
        (Toy.off, 1, "--off is true or false, not 1"),
    ],
)
def test_what_is_no_value_is_said(setting, given, says):
    with pytest.raises(UsageError) as error:
        setting.value(given)
    assert str(error.value) == says


def test_ends_are_values_and_a_choice_is_spelled_as_declared():
    assert [Toy.lot.value(v) for v in (1, "8")] == [1, 8]
    assert Toy.kind.value("LEFT") == "Left"


def test_a_launch_line_spells_what_an_engine_declares():
    """It spells them as we do, unless the record says how; shared ones only where it is said."""
    said = {one.name: way for one, way in launched(Vllm)}
    assert said["block_size"].names == ("--block-size",)
    assert said["decode_context_parallel_size"].names == ("--decode-context-parallel-size", "-dcp")
    assert "context" not in said and said["dtype"].plain == ("auto",)
    assert not [one for one, _ in launched(Toy)]
    assert [one.written for one in (Other.lot, Toy.lot, Toy.long)] == ["--lots", "-l", "--long"]


def test_flags_read_what_records_say():
    read = flags("", Sglang)
    assert read["--ep"].detail == read["--enable-ep-moe"].detail == "enable_expert_parallel"
    assert (read["--ep"].takes, read["--ep"].kind) == ("value", "many")
    assert (read["--enable-ep-moe"].takes, read["--enable-ep-moe"].kind) == ("switch", "true")
    assert "--dp-size" not in read  # the dialect's own code reads it
    off = LaunchFlag("--mmap", reads="false")
    assert (off.names, off.reads, off.plain) == (("--mmap",), "false", ())


@all_of("engine", [e for e in ENGINES if ENGINES[e].programs])
def test_no_flag_of_an_engine_stands_twice(engine):
    """Neither for two settings, nor for one and in the table of those that are not modelled."""
    names = [n for _, way in launched(ENGINES[engine].settings) for n in way.names]
    assert len(names) == len(set(names))
    known = ENGINES[engine].home("dialect").DIALECT.flags
    for setting, way in launched(ENGINES[engine].settings):
        if way.reads != "code":
            assert {known[n].detail for n in way.names} == {setting.name}, setting.name


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_face_says_the_same_of_a_setting(lang):
    """Bounds, choices and sentences of schemas, options and the page are those of the record."""
    tabs = {tab["name"]: tab["sections"] for tab in form(lang)["tabs"]}
    for task, table in TABLES.items():
        rows = {row["name"]: row for part in tabs[task] for row in part["settings"]}
        shown = {option.name: option for option in options(table)}
        for name, one in table.items():
            row, schema = rows[name], setting_schema(one)
            assert row["help"] == (one.zh if lang == "zh" else one.page or one.help)
            assert (row["flag"], row["kind"], row["default"]) == (
                one.flag,
                one.kind.name,
                one.default,
            )
            assert schema["description"].startswith(one.help) and shown[name].help == one.help
            assert schema.get("maximum", MOST) == (one.most if "maximum" in schema else MOST)
            assert one.flag in shown[name].opts and set(one.flags) <= set(shown[name].opts)
            assert isinstance(shown[name], click.Option)
            assert list(one.choices) == schema.get("enum", [])


@pytest.mark.parametrize("name", ["dtype", "batch_size", "torch_version"])
def test_training_says_a_setting_in_its_own_words(name):
    assert getattr(Train, name).help != "" and engines_of(getattr(Train, name)) == ()
    assert getattr(Infer, name) is not getattr(Train, name)


def test_every_sentence_has_its_translation():
    for task, name in EVERY:
        one = TABLES[task][name]
        assert one.help and one.zh and one.label_zh, (task, name)


def test_what_another_class_says_comes_first():
    """Label and sentence each: training's dtype is meant otherwise, and called as any."""
    ours, shared = Train.dtype, Infer.dtype
    assert ours.help != shared.help and ours.label_zh == shared.label_zh != ""


def test_every_sentence_is_of_a_setting():
    declared = [Settings]
    for one in declared:
        declared.extend(one.__subclasses__())
    asked = [*TABLES["fit"].values(), *(s for one in declared for s in vars(one).values())]
    known = {key for s in asked if isinstance(s, Setting) for key in s.worded}
    rows = entries("settings")
    assert rows.keys() - known == set()
    words = {"help", "zh", "label", "label_zh", "page"}
    assert all(row.keys() <= words and all(row.values()) for row in rows.values())


def test_pairs_stay_as_they_are_written():
    """A comma ends a pair in a list, too: no command line could say it otherwise."""
    placed = TABLES["infer"]["override_tensor"]
    assert placed.value("a=CPU, b=c") == ("a=CPU", " b=c")
    assert placed.value(["a=CPU,b=c", "d"]) == ("a=CPU", "b=c", "d")
    for wrong in ("", [], [1], 3):
        with pytest.raises(UsageError, match="--override-tensor is pairs such as"):
            placed.value(wrong)
