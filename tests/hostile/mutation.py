"""Wrong values for right files: of bytes, of JSON, and of single values."""

import json
import re
from functools import cache
from pathlib import Path

import weighbridge

ROOT = Path(weighbridge.__file__).parent
READS = r"\.(?:num|get|has|flag|word|many|nums|ratio|layers|pair|maybe|per_layer|sub|each)\(\s*"
KEY = re.compile(READS + r'"([\w.]+)"')

NUMBERS = [0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 255, 4096, 65535, 65536, 10**6, 10**9]
NUMBERS += [(1 << n) + d for n in (31, 32, 40, 63, 64) for d in (-1, 0, 1)]
NUMBERS += [-1, -2, -(1 << 31), -(1 << 63), 10**30, int("9" * 4000)]
FLOATS = [-0.0, 0.0, 0.5, 1.5, -1.5, 1e-300, 1e300, 4096.0, 1e9]
NAMES = [
    "",
    "x",
    "auto",
    "none",
    "float32",
    "gelu",
    "\x1b[31mred\x07",
    "\x9b31m",
    "a\nb",
    "../../x",
]
NAMES += ["é" * 100, "x" * 5000, "1" * 300, "<img src=x>", "[a](javascript:x)", "|", "\u202e"]


def value(rng, deep=2):
    """Anything that JSON can say."""
    kind = rng.randrange(9)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice(FLOATS)
    if kind == 4:
        return rng.choice(NAMES)
    if kind == 5:
        return rng.choice((None, True, False))
    if kind == 6 or not deep:
        return []
    if kind == 7:
        return [value(rng, deep - 1) for _ in range(rng.choice((0, 1, 2, 3, 40)))]
    return {str(key): value(rng, deep - 1) for key in rng.choices(NAMES, k=rng.randrange(3))}


def near(rng, old):
    """Near what was there: of its kind, and wrong."""
    if isinstance(old, bool) or old is None:
        return rng.choice((None, True, False, 0, 1, "true"))
    if isinstance(old, int):
        old %= 1 << 70
        return rng.choice(
            (old + 1, old - 1, -old, old * 2, float(old), old * 1000, str(old), [old])
        )
    if isinstance(old, float):
        return rng.choice((-old, old * 1e6, 0.0, str(old), [old], float("nan"), float("inf")))
    if isinstance(old, str):
        return rng.choice((old + "x", old[:-1], old.upper(), [old], {"type": old}, old * 50))
    if isinstance(old, list):
        return rng.choice((old[:-1], old + old, old * 40, old[::-1], old[:1] and old[0], [old]))
    return rng.choice(([old], dict(list(old.items())[:1]), list(old), str(old)[:50]))


def places(found, at=()):
    """Each place in a value of JSON, as a path of keys."""
    inner = found.items() if isinstance(found, dict) else enumerate(found)
    for key, below in inner:
        yield (*at, key)
        if isinstance(below, dict | list):
            yield from places(below, (*at, key))


def mutated(rng, found, *, keys=(), often=(1, 1, 1, 2, 3, 8)):
    """A copy of a JSON object with a few values changed, dropped or added."""
    made = json.loads(json.dumps(found))
    for _ in range(rng.choice(often)):
        everywhere = list(places(made))
        if keys and (not everywhere or rng.random() < 0.35):
            made[rng.choice(keys)] = value(rng)
            continue
        if everywhere:
            _change(rng, made, rng.choice(everywhere))
    return made


def _change(rng, made, path):
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    old = inside[path[-1]]
    if rng.random() < 0.15:
        del inside[path[-1]]
    else:
        inside[path[-1]] = near(rng, old) if rng.random() < 0.4 else value(rng)


@cache
def keys_read(*folders):
    """The keys that our own sources read of a config."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            found.update(KEY.findall(path.read_text()))
    return sorted(found)
