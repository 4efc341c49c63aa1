"""Texts as plain data: hostile ones are one line, and nothing is made of them."""

import pytest
from tests.cases import all_of

from weighbridge.base.cost import MOST
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import decoded, documents
from weighbridge.files.runfiles.reading import filled, groups
from weighbridge.files.runfiles.tables import table

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@all_of(
    ("text", "says"),
    [
        (BOMB, "too large"),
        ("[" * 100_000, "nested too deep"),
        ("a: *nobody", "not defined above"),
        ("a: &a [*a]", "not defined above"),
        ("a: 1\n\tb: 2", "no YAML"),
        ("a: {{ .Values.x }}: b", "is a template"),
        ("model: {{ model }}\nb: 1\n", "run.yaml:1: this is a template"),
        ("a:\n  {{- if .x }}\n  b: 1\n", "is a template"),
        ("x: !!int foo", "no YAML"),
        ("---\n" * 200, "more than 100 documents"),
    ],
)
def test_a_hostile_yaml_is_one_line(text, says):
    with pytest.raises(BadFileError, match=says) as told:
        documents(text, "yaml", "run.yaml")
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("run.yaml")


def test_a_tag_makes_no_object():
    (document,) = documents('a: !!python/object/apply:os.system ["touch /tmp/x"]\n', "yaml")
    assert document.data == {"a": None}
    (document,) = documents("a: !!python/name:os.system\nb: !mine 3\n", "yaml")
    assert document.data == {"a": None, "b": "3"}
    assert [line for line, _ in document.remarks] == [1, 2]
    (document,) = documents("a: !!python/tuple [q, k]\n", "yaml")  # saved arguments have them
    assert (document.data, document.remarks) == ({"a": ["q", "k"]}, ())


def test_toml_that_is_nested_too_deep_is_one_line():
    with pytest.raises(BadFileError, match="TOML is nested too deep"):
        documents("x = " + "[" * 5000 + "]" * 5000, "toml", "run.toml")


@pytest.mark.parametrize(
    ("syntax", "text", "says"),
    [
        ("toml", "x = 1\n" + "a" + ".a" * 20_000 + " = 1", ":2: this TOML is nested too deep"),
        ("toml", "a = [" + "1," * 20_000 + "]", "this TOML is too large"),
        ("json", "[" * 42 + "]" * 42, "this JSON is nested too deep"),
        ("json", "[" + "1," * 20_000 + "1]", "this JSON is too large"),
        ("python", f"x = {'-' * 500}1", "this Python is nested too deep"),
    ],
)
def test_what_costs_too_much_is_one_line_in_every_syntax(syntax, text, says):
    with pytest.raises(BadFileError, match=says):
        documents(text, syntax, "run")


@pytest.mark.parametrize("number", ["1:" * 40 + "1", "9" * 100, "0b" + "1" * 100, f".{'1' * 99}"])
def test_a_number_of_very_many_digits_is_no_number(number):
    (document,) = documents(f"a: {number}", "yaml")
    assert document.data == {"a": number}
    assert documents("a: 1:30", "yaml")[0].data == {"a": 90}


def test_a_key_that_stands_twice_is_told_and_the_last_one_counts():
    (document,) = documents("a: 1\nb: 2\na: 3\n", "yaml")
    assert document.data == {"a": 3, "b": 2}
    assert document.remarks == ((3, "a stands twice; the last one counts"),)


def test_merges_and_aliases_are_what_they_name():
    (document,) = documents("base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\n", "yaml")
    assert document.data["one"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        ("yaml", "a:\n  b: 12  # why\n  c: [p, q]\n"),
        ("json", '{\n "a": {\n  "b": 12, "c": ["p", "q"]}}'),
        ("toml", '[a]\nb = 12  # why\nc = ["p", "q"]\n'),
    ],
)
def test_a_place_holds_its_value(syntax, text):
    (document,) = documents(text, syntax)
    assert document.data["a"]["b"] == 12
    place = document.place(("a", "b"))
    assert text[place.start : place.end].strip() == "12"
    assert text.split("\n")[place.line - 1].count("12") == 1
    assert document.place(("a", "nothing")) == document.place(("a",))


def test_a_long_file_and_a_binary_one_are_refused():
    with pytest.raises(BadFileError, match="longer than 1 MiB"):
        decoded(b"a" * (MOST + 1), "x")
    with pytest.raises(BadFileError, match="is no text"):
        decoded(b"\0\1\2", "x")
    assert decoded("a: é\r\nb".encode(), "x") == "a: é\nb"
    assert decoded("a".encode("utf-16"), "x") == "a"


def test_what_nothing_tells_is_one_line_that_lists_the_kinds():
    with pytest.raises(UsageError, match=r"run\.yaml: .*axolotl"):
        read("a: 1\n", "run.yaml")
    with pytest.raises(UsageError, match="no kind of run file"):
        read("a: 1\n", "run.yaml", "nonsense")
    with pytest.raises(BadFileError, match="no YAML"):
        read("a: [", "run.yaml")


def test_a_table_has_sections():
    keys = table("[settings]\na   seq_len\n[ignored]\nb c\nd_*\n[memory]\ne   why it is so\n")
    assert keys.settings == {"a": "seq_len"}
    assert keys.ignored == {"b", "c", "d_*"}
    assert keys.memory == {"e": "why it is so"}
    assert set(groups("a.b_c")) == {"a.b_c", "a.b_c.*", "a.*", "a.b_*"}
    assert filled("${A:-x}/${B}") == "x/${B}"


AXOLOTL = "base_model: org/name\nmicro_batch_size: {size}\n"


def test_a_wrong_value_names_its_line():
    with pytest.raises(UsageError, match=r"run\.yaml:2: micro_batch_size is 'many'"):
        read(AXOLOTL.format(size="many"), "run.yaml")


def test_a_variable_with_a_default_is_its_default_and_one_without_is_told():
    (run,) = read(AXOLOTL.format(size="${SIZE:-4}"), "run.yaml").runs
    assert run.settings["batch_size"] == "4"
    (run,) = read(AXOLOTL.format(size="$SIZE"), "run.yaml").runs
    assert [(one.key, one.line) for one in run.unread] == [("micro_batch_size", 2)]
    assert ("batch_size", 1, "axolotl's own micro_batch_size") in run.defaults


def test_a_key_that_nobody_knows_is_told_with_its_line():
    (run,) = read(AXOLOTL.format(size=1) + "strange: 3\noff: false\n", "run.yaml").runs
    assert [(one.key, one.line) for one in run.unread] == [("strange", 3)]
