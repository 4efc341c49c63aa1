"""Long lists of cases, of which a part runs where people wait: of `each` the rest runs at night (make
test-slow, make test-torch), of `some` among the slow tests."""

import pytest

NAMED = type(pytest.param())
SLOW = (pytest.mark.slow,)
NIGHTLY = (*SLOW, pytest.mark.nightly)


def each(step, cases):
    """Cases for `parametrize`, of which CI has each `step`-th, the first among them."""
    return [case if i % step == 0 else _marked(case, NIGHTLY) for i, case in enumerate(cases)]


def some(step, cases):
    """Cases for `parametrize`, of which the fast suite has each `step`-th, the first among them."""
    return [case if i % step == 0 else _marked(case, SLOW) for i, case in enumerate(cases)]


def _marked(case, marks):
    if isinstance(case, NAMED):
        return pytest.param(*case.values, marks=(*case.marks, *marks), id=case.id)
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks)
