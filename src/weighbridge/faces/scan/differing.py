"""The verdicts that differ between two datasets, and why.

Answers are compared by key and question first, so that a thousand fine-tunes are one comparison,
and joined with models last.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge.faces.scan.asking import MODEL
from weighbridge.faces.scan.dataset import ScanPlan, noted
from weighbridge.faces.scan.query import answers_of, models_of, unread
from weighbridge.memory.report.scan_diff import WHYS, ScanChange, ScanDiff, ScanNames, ScanTurn

PAIRS = """
create temp table pairs as
select id, w.key as was_key, n.key as now_key, w.sha as was_sha, n.sha as now_sha,
       n.downloads, n.unread, w.key is null as was_unread, n.key is null as now_unread
from (select id, min(was_models) as w from was_models group by id)
join (select id, min(now_models) as n from now_models group by id) using (id)
"""
VERDICT = f"""
case when {{0}}.code <> 0 then 'refused' when w.question = '{MODEL}' then 'read'
else coalesce({{0}}.fits, 'answered') end
"""
# `?` is the list of questions whose settings differ under one name
COMPARED = f"""
create temp table compared as
select was_key, now_key, w.question, n.family,
    {VERDICT.format("w")} as was, {VERDICT.format("n")} as now,
    w.need as was_need, n.need as now_need,
    w.engine_version as was_version, n.engine_version as now_version, n.reason,
    was_key <> now_key as config, list_contains(?, w.question) as question_differs,
    w.engine_version is distinct from n.engine_version as engine,
    w.rules is distinct from n.rules as rules
from (select distinct was_key, now_key from pairs where not was_unread and not now_unread)
join was_answers w on w.key = was_key
join now_answers n on n.key = now_key and n.question = w.question
"""
UNREAD = f"""
select id, null as was_key, null as now_key, '{MODEL}' as question,
    case when was_unread then 'refused' else 'read' end as was,
    case when now_unread then 'refused' else 'read' end as now,
    null as was_need, null as now_need, null as was_version, null as now_version,
    unread as reason, true as config, false as question_differs, false as engine, false as rules,
    was_sha, now_sha, downloads
from pairs where was_unread <> now_unread
"""
CHANGES = f"""
create temp table changes as
select id, was_key, now_key, question, was, now, was_need, now_need, was_version, now_version,
    reason, config, question_differs, engine, rules, was_sha, now_sha, downloads
from pairs join compared using (was_key, now_key) where was <> now union all by name ({UNREAD})
"""
TURNS = """
select question, was, now, config, question_differs, engine, rules, was_version, now_version,
    count(*) as models
from changes group by all order by models desc, question, was, now, was_version, now_version
"""
FIRST = """
select question, was, now, config, question_differs, engine, rules, id, was_need, now_need,
    was_sha, now_sha, reason
from changes order by downloads desc nulls last, id, question limit ?
"""
MOVED = """
select family, count(*) from compared where was = now and was_need <> now_need
group by family order by family
"""
MODELS = """
select count(*) filter (w and n), count(*) filter (n and not w), count(*) filter (w and not n)
from (select id, bool_or(old) as w, bool_or(not old) as n from (
    select id, true as old from was_models union all select id, false from now_models
) group by id)
"""
RULES = """
select family, w.rules, n.rules
from (select family, max(rules) as rules from was_answers group by family) w
join (select family, max(rules) as rules from now_answers group by family) n using (family)
where w.rules <> n.rules order by family
"""
TOLD = 7  # number of leading columns that turns and changes share


def diff(old: tuple[Path, ScanPlan], new: tuple[Path, ScanPlan], most: int) -> ScanDiff:
    """Return the differences between two datasets; at most `most` changes are listed one by one.

    Raises:
        weighbridge.BadFileError: a file of theirs cannot be read.
    """
    import duckdb

    try:
        return _compare(duckdb.connect(), old, new, most)
    except duckdb.Error as error:
        raise unread(error, old, new) from None


def _compare(
    connection: Any, old: tuple[Path, ScanPlan], new: tuple[Path, ScanPlan], most: int
) -> ScanDiff:
    for name, (out, plan) in (("was", old), ("now", new)):
        connection.register(f"{name}_models", models_of(out))
        connection.register(f"{name}_answers", answers_of(out, plan))
    names = _question_names(old[1], new[1])
    connection.execute(PAIRS)
    connection.execute(COMPARED, [list(names.other)])
    connection.execute(CHANGES)

    def asked(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = connection.execute(sql, list(values)).fetchall()
        return rows

    both, here, gone = asked(MODELS)[0]
    return ScanDiff(
        sources=(old[1].source, new[1].source),
        models=(both, here, gone),
        questions=names,
        rules={family: (was, now) for family, was, now in asked(RULES)},
        left=(_unanswered_parts(*old), _unanswered_parts(*new)),
        moved=dict(asked(MOVED)),
        turns=tuple(_turns(asked(TURNS))),
        changes=tuple(_changes(asked(FIRST, most))),
    )


def _question_names(old: ScanPlan, new: ScanPlan) -> ScanNames:
    was = {q.name: (q.task, dict(q.settings)) for q in old.questions}
    now = {q.name: (q.task, dict(q.settings)) for q in new.questions}
    return ScanNames(
        new=tuple(name for name in now if name not in was),
        gone=tuple(name for name in was if name not in now),
        other=tuple(name for name in now if name in was and now[name] != was[name]),
    )


def _unanswered_parts(out: Path, plan: ScanPlan) -> int:
    """Return the number of parts that are not completely answered."""
    return sum(
        any(noted(out, plan, family, number) is None for family in plan.families)
        for number in range(plan.parts)
    )


def _reasons(flags: tuple[bool, ...]) -> tuple[Any, ...]:
    return tuple(why for why, true in zip(WHYS, flags, strict=False) if true) or WHYS[-1:]


def _turns(rows: list[tuple[Any, ...]]) -> Iterator[ScanTurn]:
    for row in rows:
        question, was, now, *flags = row[:TOLD]
        *versions, models = row[TOLD:]
        yield ScanTurn(
            question, was, now, _reasons(tuple(flags)), (versions[0], versions[1]), models
        )


def _changes(rows: list[tuple[Any, ...]]) -> Iterator[ScanChange]:
    for row in rows:
        question, was, now, *flags = row[:TOLD]
        name, old_need, new_need, old_sha, new_sha, reason = row[TOLD:]
        yield ScanChange(
            name,
            question,
            was,
            now,
            _reasons(tuple(flags)),
            (old_need, new_need),
            (old_sha, new_sha),
            reason,
        )
