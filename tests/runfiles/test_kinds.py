"""What holds of every kind of run file."""

from weighbridge.files.runfiles.kinds import HOMES, kinds
from weighbridge.files.runfiles.record import Kind

KINDS = {each.name: each for each in kinds()}


def test_every_kind_is_a_record_with_a_name_of_its_own():
    assert len(KINDS) == len(HOMES)
    assert all(type(each) is Kind for each in kinds())
    assert [
        n for n, each in KINDS.items() if not (each.title and each.syntaxes and each.source)
    ] == []


def test_what_writes_a_new_file_writes_a_change_of_one_too():
    """Of a manifest the flags are changed in their line, and of a part nothing is."""
    alone = {name for name, each in KINDS.items() if each.fresh and each.written({}) is None}
    assert alone == {"deepspeed", "accelerate", "compose", "kubernetes", "server-config"}
    assert all(each.fresh for each in kinds() if each.starts or each.fetches)
