"""The screen of `infer`: the memory an engine reserves, the longest context, and the line that runs
it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.wording import printable, printable_lines
from weighbridge.engines.engine import written
from weighbridge.engines.table import ENGINES, version
from weighbridge.engines.table import engine as record
from weighbridge.engines.table import title as named
from weighbridge.faces.view.answer import weights_too_big
from weighbridge.faces.view.changes import language, smallest, unhelped
from weighbridge.faces.view.load import form, ram
from weighbridge.faces.view.records import Note, Paste, Section, lines
from weighbridge.faces.view.shown import ShownAnswer
from weighbridge.memory.report import Report

if TYPE_CHECKING:
    from weighbridge.memory.report.verdict import Verdict

SHARES = ("gpu_memory_utilization", "mem_fraction_static")
THOUSAND = 1000  # number of tokens


def engine(report: Report) -> str:
    """Return the engine's name as its makers write it, with its version if one is set."""
    w = report.workload
    name = named(w["engine"])
    return f"{name} {w['engine_version']}" if w["engine_version"] else name


def by_rules(answer: ShownAnswer) -> str:
    """Return the engine's name, and whose rules are used if the engine or its release is
    unknown."""
    w, named = answer.report.workload, engine(answer.report)
    asked = answer.report.derived.get("engine_asked")
    if isinstance(asked, str):
        return answer.say("title.rules", engine=printable(asked), version=named)
    if w["engine"] not in ENGINES:  # engines of pipelines have no rules
        return named
    nearest, unknown = version(record(w["engine"]), w["engine_version"])
    return answer.say("title.rules", engine=named, version=written(nearest)) if unknown else named


def title(answer: ShownAnswer) -> str:
    what = answer.say(
        "title.on", model=printable(answer.report.model.name), engine=by_rules(answer)
    )
    return " · ".join(filter(None, (what, form(answer.report), _requests(answer))))


def _requests(answer: ShownAnswer) -> str:
    w = answer.report.workload
    if w["context"] is None:
        return answer.pictures or answer.say("title.weights_alone")
    if answer.sees:
        return answer.say.some("images.one", "images.many", w["batch_size"])
    number = answer.say.some("requests.one", "requests.many", w["batch_size"])
    at_a_time = answer.say("title.requests", requests=number, context=f"{w['context']:,}")
    slots = _own_slots(answer.report)
    return answer.say("title.slots", requests=at_a_time, slots=slots) if slots else at_a_time


def _own_slots(report: Report) -> int:
    """Return the number of slots with a full-context cache each, if there are more than requests; 0
    if not, or if slots share a cache."""
    asked, slots = report.workload["batch_size"], report.setting("parallel") or 1
    cells, context = report.setting("n_ctx") or 0, report.workload["context"] or 0
    return slots if slots > asked and cells >= slots * context else 0


def sections(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the sections of the screen, the next step first: the line that runs it, or changes to
    fit."""
    v = answer.report.verdict
    changed = tuple(_change_sections(answer))
    if v is not None and v.fits == "no":
        yield from changed
        changed = ()
    if unhelped(answer) and answer.report.derived.get("command") is None:
        yield (smallest(answer),)
    yield from _launch_sections(answer)
    yield from changed
    serving = lines(*_reserved_lines(answer), *_per_token_lines(answer))
    if serving.lines:
        yield (serving,)
    limits = lines(*_limit_lines(answer))
    if v is not None and v.fits == "yes":
        limits = limits._replace(heading=answer.say("changes.room"))
    yield (limits,)
    yield (lines(ram(answer)),)


def _change_sections(answer: ShownAnswer) -> Iterator[Section]:
    if answer.report.remedies:
        from weighbridge.faces.view import changes

        grid = changes.grid(answer, changes.found(answer))
        if grid is not None:
            yield (grid,)


def _launch_sections(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the line that runs what was estimated, or the reason why there is none; for a run that
    does not fit, the line of a change."""
    d = answer.report.derived
    v = answer.report.verdict
    if v is not None and v.fits == "no" and d.get("command") is None and answer.report.remedies:
        yield from _change_to_paste(answer)
        return
    line, note = printable_lines(d.get("launch") or ""), answer.say.told(d.get("launch_note"))
    before = (Note(note),) if note else ()
    if line:
        yield (Paste(_launch_heading(answer, line), line, language(line)), *before)
    elif before:
        yield before


def _change_to_paste(answer: ShownAnswer) -> Iterator[Section]:
    """Yield the line to paste of the cheapest change that has one, with its note."""
    from weighbridge.faces.view import changes

    for r in changes.found(answer):
        pasted = changes.paste(answer, r)
        if pasted:
            yield (*pasted, *((Note(answer.say.told(r.note)),) if r.note else ()))
            return


def _launch_heading(answer: ShownAnswer, line: str) -> str:
    """Return the heading of a launch line; it includes the verdict if the line does not fit."""
    v = answer.report.verdict
    for remedy in answer.report.remedies:
        if f" {remedy.flags}" in line:  # the line is the user's command with this remedy's flags
            return answer.say(
                "paste.with", flags=remedy.flags, verdict=answer.say(f"verdict.{remedy.fits}")
            )
    if v is None or v.fits != "no":
        return answer.say("paste.run")
    return answer.say("paste.judged", verdict=answer.say(f"verdict.{v.fits}"))


def _reserved_lines(answer: ShownAnswer) -> Iterator[str]:
    """Yield the bytes that an engine reserves by its own rule, and the requests that run in them.
    Nothing if no cache is left."""
    d, w, taken = answer.report.derived, answer.report.workload, answer.device.taken
    if taken is None and d.get("share_needed_bytes") and w["context"]:
        yield answer.say("infer.share", size=answer.size(d["share_needed_bytes"]))
    if taken is None or d.get("kv_cache_tokens") == 0:
        return
    name = next((name for name in SHARES if w.get(name)), "")
    values = {"engine": named(w["engine"]), "size": answer.size(taken)}
    if name:
        share = f"--{name.replace('_', '-')} {w[name]:.4g}"
        yield answer.say("infer.reserves.share", share=share, **values)
    else:
        yield answer.say("infer.reserves", **values)
    if not d.get("kv_cache_tokens"):
        return
    tokens, running = f"{d['kv_cache_tokens']:,}", at_once(answer.report)
    if running is None:
        yield answer.say("infer.tokens", tokens=tokens)
    else:
        context, requests = f"{w['context']:,}", f"{running:,.1f}"
        capped = running < (d["max_concurrency"] or 0)
        key = "infer.tokens.capped" if capped else "infer.tokens.requests"
        yield answer.say(key, tokens=tokens, requests=requests, context=context)


def at_once(report: Report) -> float | None:
    """Return the number of full-context requests that run at once in the reserved cache, at most
    the engine's limit; None if unknown."""
    w, requests = report.workload, report.derived.get("max_concurrency")
    if requests is None or not w.get("max_num_seqs"):
        return requests
    return min(float(requests), float(w["max_num_seqs"] * (w.get("data_parallel_size") or 1)))


def _per_token_lines(answer: ShownAnswer) -> Iterator[str]:
    """Yield the sentence on the cache bytes per thousand tokens of context, if they are known."""
    each = answer.report.derived.get("kv_cache_bytes_per_token")
    if each:
        key = "infer.each" if answer.gpus < 2 else "infer.each.together"
        yield answer.say(key, size=answer.size(each * THOUSAND), gpus=answer.gpus)


def assumes(answer: ShownAnswer) -> Iterator[str]:
    """Yield the assumptions for the footer: packages assumed absent, and the fraction of the card
    that the engine takes."""
    if packages := answer.report.derived.get("without_packages"):
        yield answer.say("footer.without", names=", ".join(packages))
    for name in SHARES:
        if answer.report.setting(name) is not None:
            yield answer.say("footer.share", share=answer.report.setting(name))


def _longest_key(answer: ShownAnswer, verdict: "Verdict") -> str:
    """Return the key of the sentence on the longest context: the model's own, or one that surely
    fits."""
    d = answer.report.derived
    if d["largest_context"] == d["longest_context"]:
        return "infer.longest.end"
    return "infer.longest.sure" if verdict.fits == "unknown" else "infer.longest"


def _limit_lines(answer: ShownAnswer) -> Iterator[str]:
    """Yield the longest context and the most requests, each with the other settings as asked."""
    d, w, v = answer.report.derived, answer.report.workload, answer.report.verdict
    if v is None or d.get("largest_context") is None or v.devices_used > v.count:
        return
    longest, most = d["largest_context"], d["largest_batch_size"]
    if not longest:
        # The search finds what surely fits: with a "no", a shorter context may be too close to call
        none = v.fits == "no" and weights_too_big(answer)
        if tokens := d.get("kv_cache_tokens"):
            yield answer.say("infer.longest.expected", tokens=f"{tokens:,}")
        else:
            yield answer.say("infer.longest.weights" if none else "infer.longest.unsure")
        return
    if answer.sees:
        yield answer.say("infer.most.images", images=f"{most:,}")
        return
    number = answer.say.some("requests.one", "requests.many", w["batch_size"])
    line = answer.say(_longest_key(answer, v), tokens=f"{longest:,}", requests=number)
    flags = printable(d.get("largest_context_flags") or "")
    yield answer.say("infer.longest.flags", longest=line, flags=flags) if flags else line
    if answer.device.taken is None and most:
        yield answer.say("infer.most", requests=f"{most:,}", context=f"{w['context']:,}")
