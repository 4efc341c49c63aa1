"""Long lists of cases: a part runs in CI, all of them at night (make test-slow, make test-torch)."""

import pytest

NAMED = type(pytest.param())
NIGHTLY = (pytest.mark.slow, pytest.mark.nightly)


def each(step, cases):
    """Cases for `parametrize`, of which CI has each `step`-th, the first among them."""
    return [case if i % step == 0 else _nightly(case) for i, case in enumerate(cases)]


def _nightly(case):
    if isinstance(case, NAMED):
        return pytest.param(*case.values, marks=(*case.marks, *NIGHTLY), id=case.id)
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=NIGHTLY)
