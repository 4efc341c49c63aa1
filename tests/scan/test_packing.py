"""All answers in one file: what queries say of it is what the parts say, or it counts for nothing."""

import json

import pytest

from tests.scan.conftest import files
from tests.scan.test_command import typed
from tests.scan.test_differing import compared
from tests.scan.test_running import run
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.faces.scan import packing
from weighbridge.faces.scan.checking import check
from weighbridge.faces.scan.dataset import note_file, rows_of
from weighbridge.faces.scan.query import ScanView

pytestmark = pytest.mark.slow
ALL = "select * from answers order by key, question"
JOINED = "select id, question, need, fits from weighed order by all"


@pytest.fixture
def whole(planned):
    out, plan = planned
    run(out, plan)
    return out, plan


def test_queries_say_the_same_of_it(whole):
    out, plan = whole
    before = [ScanView(out, plan).ask(sql) for sql in (ALL, JOINED)]
    summary = ScanView(out, plan).summary(plan, 50)
    packing.pack(out, plan)
    assert packing.packed(out)
    assert [ScanView(out, plan).ask(sql) for sql in (ALL, JOINED)] == before
    assert ScanView(out, plan).summary(plan, 50) == summary
    rows = rows_of(out / packing.PACKED)
    order = [(plan.families.index(r["family"]), r["question"], r["key"]) for r in rows]
    assert order == sorted(order)
    assert compared(out, out).total == 0


def test_a_run_that_leaves_nothing_writes_it(planned):
    out, plan = planned
    typed("run", out, "--parts", "0/2")
    assert packing.packed(out) is None
    typed("run", out, "--parts", "1/2")
    assert packing.packed(out)
    assert len(rows_of(out / packing.PACKED)) == check(out, plan).rows


def test_it_counts_until_a_part_is_answered_anew(whole):
    out, plan = whole
    packing.pack(out, plan)
    kept = files(out)
    note_file(out, "vllm", 1).unlink()
    run(out, plan)
    assert packing.packed(out) is None
    assert files(out) == kept
    packing.pack(out, plan)
    told = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps({**told, "source": "another plan"}))
    assert packing.packed(out) is None


@pytest.mark.parametrize(
    "sql",
    [
        "copy models to '{file}' (format parquet, use_tmp_file false)",
        "copy (select 1) to '{file}' (format parquet, use_tmp_file false)",
        "explain analyze copy models to '{file}' (format parquet, use_tmp_file false)",
        "select 1; copy models to '{file}' (format parquet, use_tmp_file false)",
        "copy models to '{out}/new.parquet'",
        "attach '{file}'",
        "select * from '/etc/passwd'",
        "select * from read_parquet('{out}/configs/part-0000.parquet')",
        "create table own as select 1",
    ],
)
def test_a_query_cannot_write_what_it_may_read(whole, sql):
    out, plan = whole
    packing.pack(out, plan)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="the query: "):
        ScanView(out, plan).ask(sql.format(out=out, file=out / packing.PACKED))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_file_that_is_another_is_found(whole):
    out, plan = whole
    packing.pack(out, plan)
    assert check(out, plan).code == 0
    (out / packing.PACKED).write_bytes(b"not ours")
    found = check(out, plan)
    assert found.code == 2
    assert packing.PACKED in found.faults[0]
    with pytest.raises(BadFileError, match=r"answers\.parquet: is not .* scan run .* writes it"):
        ScanView(out, plan)
