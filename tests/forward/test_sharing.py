"""Who else holds a tensor: counted the same in every version of Python."""

import sys

from weighbridge.training.forward.backward import _owned, holders, shared
from weighbridge.training.forward.splice import _alone


class Tensor:
    def __init__(self, storage):
        self.storage = storage


def test_an_item_of_a_list_is_shared_once_something_else_holds_it():
    held = [Tensor(object())]
    assert not shared(held, 0)
    other = held[0]
    assert shared(held, 0)
    del other
    assert not shared(held, 0)
    held.append(held[0])
    assert shared(held, 0)


def test_holders_of_a_storage_are_its_tensors():
    one = Tensor(object())
    assert holders(one) == 1
    view = Tensor(one.storage)
    assert holders(one) == holders(view) == 2


def test_a_gradient_with_a_second_holder_is_not_owned():
    buffer = [Tensor(object())]
    assert _owned(buffer, 0) and _alone(buffer, 0)
    saved = buffer[0]
    assert not _owned(buffer, 0) and not _alone(buffer, 0)
    del saved
    view = Tensor(buffer[0].storage)
    assert not _owned(buffer, 0) and _alone(buffer, 0)
    del view
    assert _owned(buffer, 0)


def test_a_local_variable_is_what_versions_count_differently():
    one = object()
    assert sys.getrefcount(one) == (2 if sys.version_info < (3, 14) else 1)
