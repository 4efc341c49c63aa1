"""Memory of kernels besides their outputs: the table of allocations that dispatch cannot see.

rule.py         a record: operations, bytes, when, for which torch, with its source
products.py     cuBLAS, attention and cuDNN: workspaces, accumulators, copies of inputs
reductions.py   sums that go through memory, norms, embeddings and indexing, sorting, boxes
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.hidden import products, reductions
from weighbridge_lab.trace.hidden.rule import HiddenRule, Op, Version, When

RULES: tuple[HiddenRule, ...] = (*products.RULES, *reductions.RULES)


class Hidden:
    """The rules for a card and a torch version, by operation."""

    def __init__(self, card: Card, version: Version) -> None:
        self.card = card
        self.version = version
        self.rules: dict[str, list[HiddenRule]] = defaultdict(list)
        for rule in RULES:
            if rule.since <= version < rule.until:
                for name in rule.ops.split():
                    self.rules[name].append(rule)
        self.products = frozenset(products.PRODUCTS.split())
        self._workspaces: set[tuple[Any, int, str]] = set()  # (thread, device, name)

    def knows(self, name: str) -> bool:
        return name in self.rules or name in self.products

    def op(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Op:
        return Op(args, kwargs, self.card, self.version)

    def allocations(self, name: str, op: Op, when: When) -> Iterator[tuple[str, list[int]]]:
        """Yield (name, bytes of buffers in use together) for each rule that applies to an
        operation."""
        for rule in self.rules.get(name, ()):
            if rule.when == when:
                sizes = [nbytes for nbytes in rule.nbytes(op) if nbytes]
                if sizes:
                    yield rule.what or f"within aten.{name}", sizes

    def workspaces(
        self, name: str, op: Op, device: int, *, engine: bool
    ) -> Iterator[tuple[str, int]]:
        """Yield (name, bytes) of workspaces that a thread allocates now and keeps. On a GPU the
        autograd engine has a thread of its own per device."""
        if name not in self.products:
            return
        thread = "engine" if engine else threading.get_ident()
        for what, nbytes in products.workspaces(name, op):
            if (thread, device, what) not in self._workspaces:
                self._workspaces.add((thread, device, what))
                yield what, nbytes

    def forget(self) -> None:
        """Drop all workspaces, as torch._C._cuda_clearCublasWorkspaces does."""
        self._workspaces.clear()
