"""Every sentence of the screens, by its key, in each language: `en.py` and `zh.py`.

Both tables have the same keys and the same placeholders. Names of settings, formats and models,
and what comes with an answer (warnings, formulas, sources) stay as they are.
"""

from importlib import import_module
from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Say(NamedTuple):
    """The words of one language."""

    lang: str
    table: dict[str, str]
    page: bool = False  # where nobody types options

    def __call__(self, key: str, **values: object) -> str:
        return self.table[key].format(**values)

    def some(self, one: str, many: str, count: int) -> str:
        """The sentence for one, or for several."""
        return self(one if count == 1 else many, count=f"{count:,}")


def say(lang: str, *, page: bool = False) -> Say:
    """The words of a language, on a terminal or on a page."""
    if lang not in LANGUAGES:
        raise ValueError(f"{lang!r} is no language of the screens: {', '.join(LANGUAGES)}")
    table: dict[str, str] = import_module(f"weighbridge.view.messages.{lang}").TABLE
    if not page:
        return Say(lang, table)
    from weighbridge.view.messages.page import PAGE  # which the command line does without

    return Say(lang, {**table, **PAGE[lang]}, page)
