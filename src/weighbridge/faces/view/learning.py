"""The screen of training from rewards or preferences: the phases of a step in one line, the changes
that make it fit, and the bytes of each role per phase."""

from collections.abc import Iterator

from weighbridge.base.memory import Instant
from weighbridge.base.wording import printable
from weighbridge.faces.view import changes
from weighbridge.faces.view.parts import phase_name
from weighbridge.faces.view.picture import climbed
from weighbridge.faces.view.records import Cell, Column, Grid, Lines, Section
from weighbridge.faces.view.shown import ShownAnswer
from weighbridge.training.learning import TITLES

ADAPTERS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA"}
ACTOR = "actor"  # the trained model, if a step has several models
ROLES = (ACTOR, "reference", "engine", "critic", "reward", "process")


def title(answer: ShownAnswer, name: str) -> str:
    """Return the title: the model, the method and framework that train it, and the length of its
    rows."""
    w = answer.report.workload
    framework = TITLES.get(w["framework"], w["framework"])
    by = " ".join(filter(None, (framework, w["framework_version"])))
    named = answer.say("method.reward") if w["method"] == "reward" else w["method"].upper()
    method = ", ".join(filter(None, (named, ADAPTERS.get(w["tuner"]))))
    what = answer.say("method.learns", method=method, model=name, framework=by)
    answers = "prompt_len" in w and w["max_new_tokens"]
    tokens = w.get("max_tokens_per_gpu")
    if tokens:
        return f"{what} · {answer.say('title.packed', tokens=f'{tokens:,}')}"
    rows = f"{w['batch_size']:,}"
    if not answers:
        asked = answer.say("title.sequences", batch=rows, length=f"{w['seq_len']:,}")
    else:
        prompt = f"{w['prompt_len']:,}"
        asked = answer.say("title.rows", batch=rows, prompt=prompt, answer=f"{answers:,}")
    return f"{what} · {asked}"


def instants(answer: ShownAnswer) -> Lines:
    """Return the line of a step's phases in order, with the bytes of each; the phase of the bar is
    marked."""
    texts = []
    for phase in answer.device.phases:
        mark = " ◀" if answer.phase is phase else ""
        if phase.name != "load" or mark:
            size = answer.sizes.bare(phase.at("driver").expected)
            texts.append(f"{phase_name(answer, phase.name)} {size}{mark}")
    return Lines((Cell(f"{answer.sizes.unit}: {' · '.join(texts)}"),))


CACHED = 0.1  # fraction of the peak from which the allocator's cache is mentioned


def cached(answer: ShownAnswer) -> Iterator[str]:
    """Yield a sentence on the bytes of the peak that the allocator caches and nothing needs, if
    they are many."""
    free = answer.phase.of("fragmentation").expected
    if free > CACHED * answer.peak.expected:
        yield answer.say("learning.cached", size=answer.size(free))


def apart(answer: ShownAnswer) -> Iterator[str]:
    """Yield a sentence on the bytes that a rollout engine takes on its separate cards, if it has
    some."""
    engine = answer.report.derived.get("rollout_cards")
    if engine and "fits" in engine:
        cards = printable(engine["accelerator"]).removeprefix("NVIDIA ")
        yield answer.say(
            "learning.apart",
            cards=f"{engine['count']} x {cards}",
            size=answer.size(engine["peak_bytes"]),
            room=answer.size(engine["usable_bytes"]),
            fits=answer.say(f"verdict.{engine['fits']}"),
        )


def steps(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the table of changes, and the lines to paste of the first that fits, or of the last if
    none does."""
    yield (climbed(answer, "phase"),)
    remedies = answer.report.remedies
    chosen = next((r for r in remedies if r.fits == "yes"), remedies[-1])
    if chosen.paste and chosen.fits != "no":
        yield changes.paste(answer, chosen)


def by_role(answer: ShownAnswer) -> Grid:
    """Return a table of bytes with a row per phase and a column per role, in the unit of the
    screen."""
    roles = [
        name for name in ROLES if any(_bytes_of_role(phase, name) for phase in answer.device.phases)
    ]
    heads = [Column(answer.say("head.instant"))]
    heads += [Column(answer.say(f"role.{name}"), right=True) for name in roles]
    heads.append(Column(answer.say("head.sum"), right=True))
    rows = []
    for phase in answer.device.phases:
        here = phase is answer.phase
        cells = [Cell(phase_name(answer, phase.name), None, "strong" if here else "")]
        sizes = (_bytes_of_role(phase, name) for name in roles)
        cells += [Cell(answer.sizes.bare(n) if n else "") for n in sizes]
        whole = answer.sizes.bare(phase.at("driver").expected)
        cells.append(Cell(f"{whole} ◀" if here else whole, None, "strong" if here else ""))
        rows.append(tuple(cells))
    return Grid(tuple(heads), tuple(rows), answer.say("details.roles", unit=answer.sizes.unit))


def _bytes_of_role(one: Instant, role: str) -> int:
    components = (c for c in one.components if (c.role or ACTOR) == role)
    return sum(c.bytes.expected for c in components)
