"""Long lists of cases. Of some a part runs where people wait: of `each` the rest runs at night (make
test-slow, make test-torch), of `some` among the slow tests. Of the cases of a slow test CI has each
third, of those of a test beside torch each fourth (conftest.py), unless it is marked `whole`. Those
of which a case takes less than a test does are one test: `all_of`."""

import functools
import inspect
import os
from collections.abc import Collection

import pytest

NAMED = type(pytest.param())
SLOW = (pytest.mark.slow,)
NIGHTLY = (*SLOW, pytest.mark.nightly)


class Later(Collection):
    """Cases for `parametrize`, made when pytest collects a test of them, and not for its import."""

    def __init__(self, make):
        self._cases = functools.cache(make)

    def __iter__(self):
        return iter(self._cases())

    def __len__(self):
        return len(self._cases())

    def __contains__(self, case):
        return case in self._cases()


def each(step, cases):
    """Cases for `parametrize`, of which CI has each `step`-th, the first among them."""
    return [case if i % step == 0 else _marked(case, NIGHTLY) for i, case in enumerate(cases)]


def plain_and_each(step, cases):
    """Cases of (class, change), of which CI has each class without a change and each `step`-th."""
    return [
        case if case.values[1] == {} else left
        for case, left in zip(cases, each(step, cases), strict=True)
    ]


def some(step, cases):
    """Cases for `parametrize`, of which the fast suite has each `step`-th, the first among them."""
    return [case if i % step == 0 else _marked(case, SLOW) for i, case in enumerate(cases)]


def _named(case, ids):
    own = case.id if isinstance(case, NAMED) else None
    return own or str(ids(case))[:200]


def _marked(case, marks):
    if isinstance(case, NAMED):
        return pytest.param(*case.values, marks=(*case.marks, *marks), id=case.id)
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks)


def all_of(names, cases, ids=repr):
    """Decorate a test of tiny cases, given as for `parametrize`, to be one that tells each case that
    fails."""
    names = [names] if isinstance(names, str) else list(names)

    def around(test):
        @functools.wraps(test)
        def all_of_them(**fixtures):
            failed, skipped = [], 0
            if not cases:
                pytest.skip("nothing of it is here")
            for case in cases:
                values = case.values if isinstance(case, NAMED) else case
                values = values if len(names) > 1 or isinstance(case, NAMED) else (values,)
                try:
                    test(**dict(zip(names, values, strict=True)), **fixtures)
                except pytest.skip.Exception:
                    skipped += 1
                except (Exception, pytest.fail.Exception) as error:
                    failed.append(f"{_named(case, ids)}: {type(error).__name__} {error}")
            if skipped == len(cases):
                pytest.skip("every case is skipped")
            assert not failed, f"{len(failed)} of {len(cases)}:\n" + "\n".join(failed)

        about = inspect.signature(test)
        left = [p for name, p in about.parameters.items() if name not in names]
        all_of_them.__signature__ = about.replace(parameters=left)
        return all_of_them

    cases = list(cases)
    return around


def examples(few, *, night):
    """How many examples Hypothesis makes: a `few`, and more at night."""
    return night if os.environ.get("WEIGHBRIDGE_NIGHT") else few
