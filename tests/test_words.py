"""Each word of docs/words.md has one meaning, and code that carries it."""

import pkgutil
import re
from pathlib import Path

from tests.cases import all_of

ROW = re.compile(r"^\| (.+?) \| (.+) \| `(weighbridge[\w.]*)` \|$", re.M)
WORDS = ROW.findall((Path(__file__).parent.parent / "docs" / "words.md").read_text())


def test_words_have_one_meaning_each():
    assert WORDS
    assert len(WORDS) == len({word for word, _, _ in WORDS})


@all_of("name", sorted({name for _, _, name in WORDS}))
def test_the_code_of_a_word_is_there(name):
    assert pkgutil.resolve_name(name)
