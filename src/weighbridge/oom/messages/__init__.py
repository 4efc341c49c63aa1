"""Every sentence of the screen, by its key, in each language: `en.py` and `zh.py`.

COSTS of the second are by the English sentence, which is what the JSON form has.
"""

from importlib import import_module

from weighbridge.view.messages import LANGUAGES, Say


def say(lang: str) -> Say:
    """The sentences of a language. Raises ValueError for one that there is none of."""
    if lang not in LANGUAGES:
        raise ValueError(f"{lang!r} is no language of the screens: {', '.join(LANGUAGES)}")
    table: dict[str, str] = import_module(f"weighbridge.oom.messages.{lang}").TABLE
    return Say(lang, table)


def cost(text: str, lang: str) -> str:
    """What a change costs, in a language; as it is in English where nobody has said it."""
    if lang == "en":
        return text
    told: dict[str, str] = import_module(f"weighbridge.oom.messages.{lang}").COSTS
    return told.get(text, text)
