"""The laws that every kind of run file keeps (docs/contributing/runfile.md)."""

import re
from pathlib import Path

from tests.runfiles.test_public import FOLDER

from weighbridge.engines.table import ENGINES
from weighbridge.files.runfiles.emitting import TARGETS
from weighbridge.files.runfiles.kinds import HOMES, kinds
from weighbridge.files.runfiles.record import Kind
from weighbridge.training.frameworks import FRAMEWORKS

DOCS = Path(__file__).parent.parent.parent / "docs"
KINDS = {each.name: each for each in kinds()}
PUBLIC = {path.stem for path in FOLDER.glob("*.jsonl")}  # read by tests/runfiles/test_public.py


def test_every_kind_is_a_record_with_a_name_of_its_own():
    assert len(KINDS) == len(HOMES)
    assert all(type(each) is Kind for each in kinds())
    bare = [name for name, each in KINDS.items() if not (each.title and each.source)]
    assert bare == [name for name, each in KINDS.items() if not each.syntaxes] == []


def test_every_kind_has_a_public_file():
    assert KINDS.keys() == PUBLIC


def test_every_kind_has_a_row_of_the_page_of_files():
    rows = re.findall(r"^\| (.+?) \| .+ \|$", (DOCS / "files.md").read_text(), re.M)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert KINDS.keys() - named == set()


def test_the_nouns_of_titles_are_words_of_ours():
    """Either the last word of a title is a name (Dockerfile), or docs/words.md says what it is."""
    rows = re.findall(r"^\| (.+?) \|", (DOCS / "words.md").read_text(), re.M)
    words = {word for row in rows for word in row.split()}
    nouns = {each.title.split()[-1] for each in kinds()} - {"yet"}  # a clause, not a noun
    assert {noun for noun in nouns if noun.islower()} - words == set()


def test_what_is_emitted_is_of_a_kind_that_can_write_it_and_for_programs_of_ours():
    for word, to in TARGETS.items():
        kind = KINDS[to.kind]
        assert to.syntax in kind.syntaxes, word
        assert kind.fresh or to.syntax == "python", word
        assert to.starts or kind.starts, word
        assert {*to.uses} <= (FRAMEWORKS.keys() if to.task == "train" else ENGINES.keys()), word
    fresh = {name for name, each in KINDS.items() if each.fresh}
    assert fresh == {to.kind for to in TARGETS.values()} - {"training-script"}


def test_what_writes_a_new_file_writes_a_change_of_one_too():
    """What starts a container is changed by flags of its line, and a part by nothing."""
    alone = {name for name, each in KINDS.items() if each.fresh and each.written({}) is None}
    assert alone == {"deepspeed", "accelerate", "compose", "kubernetes", "server-config"}
    assert all(each.fresh for each in kinds() if each.starts or each.fetches)
