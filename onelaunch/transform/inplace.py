"""In-place updates: a functional update of an argument becomes stores into the argument's own memory again.

before  c1 = index_put(c0, ...);  o = attend(q, c1);  update c0 <- c1
after   c0[...] = ...;            o = attend(q, c0)

Afterwards the order of the nodes matters: every node that reads the old contents comes before the node that overwrites
them. Where no such order exists (an old value is needed after the new one), the new value gets memory of its own and is
copied back at the end.
"""

from __future__ import annotations

import dataclasses
import heapq

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import rewrite
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.graph import load_value
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest

IDLE = 2  # products


@dataclasses.dataclass(slots=True)
class Ordered:
    """Nodes in execution order, and the storage that each value lives in (its own name unless it shares one)."""

    nodes: list[Node]
    storage: dict[str, str]


def inplace(graph: Graph) -> Ordered:
    """Choose storages and an order. The graph's updates are all done by nodes afterwards."""
    _separate(graph)
    state = _State(graph)
    for argument, final in graph.updates:
        if not state.adopt(argument, final):
            state.copy_back(argument, final)
    for node in list(graph.nodes):
        if node.base is not None and node.out.name not in state.storage:
            state.fresh_base(node)  # reads the base before anyone overwrites it
    order = state.sort(state.before)
    assert order is not None, "an order was checked before"
    return Ordered([_on_storage(n, state.storage) for n in _idle_later(order, state)], state.storage)


def _idle_later(order: list[Node], state: _State) -> list[Node]:
    """Stores that waited for readers of what they overwrite, and that nobody but other such stores waits for, go behind
    the next two products: on its queue such a task would keep the next one waiting for its event.
    """
    idle: set[str] = set()
    needed: set[str | None] = set()
    for node in reversed(order):
        name = node.out.name
        before = state.before.get(name, set())
        if before and name not in needed:
            idle.add(name)
        else:
            needed |= {node.base, *state.reads[name], *before}
    found: list[Node] = []
    waiting: list[tuple[int, Node]] = []  # products to come before it
    for node in order:
        if node.out.name in idle:
            waiting.append((IDLE, node))
            continue
        found.append(node)
        if node.nest.kind is Kind.LINEAR:
            waiting = [(left - 1, n) for left, n in waiting]
            found += [n for left, n in waiting if left == 0]
            waiting = [(left, n) for left, n in waiting if left > 0]
    return found + [n for _, n in waiting]


class _State:
    """What has been decided: storages, and which nodes must run before which others besides their data flow."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.table = {n.out.name: n for n in graph.nodes}
        self.reads = {n.out.name: set(n.reads) for n in graph.nodes}
        self.storage: dict[str, str] = {}
        self.before: dict[str, set[str]] = {}

    def adopt(self, argument: str, final: str) -> bool:
        """Let the versions of ``argument`` up to ``final`` live in its memory, if an order of the nodes allows it."""
        versions = self._versions(argument, final)
        if versions is None:
            return False
        trial = {k: set(v) for k, v in self.before.items()}
        old = argument
        for new in versions:
            readers = {n for n, r in self.reads.items() if old in r}
            readers |= {n.out.name for n in self.graph.nodes if n.base == old}
            trial.setdefault(new, set()).update(readers - {new})
            old = new
        if self.sort(trial) is None:
            return False
        self.before = trial
        self.storage.update(dict.fromkeys(versions, argument))
        return True

    def _versions(self, argument: str, final: str) -> list[str] | None:
        """The values from the first store into ``argument`` to ``final``, each stored into the one before it."""
        chain: list[str] = []
        name = final
        while name != argument:
            node = self.table.get(name)
            if node is None or name in self.graph.outputs:  # an output has memory of its own
                return None
            chain.append(name)
            # A store reads the memory it overwrites only at the very element that it writes, once.
            old = node.base or argument
            own = None if node.nest.walked else node.nest.index
            if any(e.args != own for e in node.nest.loads() if e.attr == old):
                return None
            if node.base is None:
                return None if old in self.reads[name] and node.nest.kind is not Kind.ROWS else chain[::-1]
            name = node.base
        return chain[::-1]

    def copy_back(self, argument: str, final: str) -> None:
        """A node at the very end that copies ``final`` into the argument."""
        values = self.graph.values()
        node = _copy(values[final], f"{argument}_back")
        readers = {n for n, r in self.reads.items() if argument in r}
        readers |= {n.out.name for n in self.graph.nodes if n.base == argument}
        self.before.setdefault(node.out.name, set()).update(readers)
        self._add(node, len(self.graph.nodes))
        self.storage[node.out.name] = argument

    def fresh_base(self, node: Node) -> None:
        """Memory of its own for a node with a base: a copy of the base, stored into."""
        assert node.base is not None
        copy = _copy(self.graph.values()[node.base], f"{node.out.name}_base")
        self._add(copy, self.graph.nodes.index(node))
        for constraints in self.before.values():  # whoever waited for readers of the base waits for the copy
            if node.out.name in constraints:
                constraints.add(copy.out.name)
        node.base = copy.out.name
        self.storage[copy.out.name] = node.out.name  # the node may be an output, the copy never is

    def _add(self, node: Node, position: int) -> None:
        self.graph.nodes.insert(position, node)
        self.table[node.out.name] = node
        self.reads[node.out.name] = set(node.reads)

    def sort(self, before: dict[str, set[str]]) -> list[Node] | None:
        """Topological order by data flow and ``before``, close to the present order; None where there is a cycle."""
        nodes = self.graph.nodes
        position = {n.out.name: i for i, n in enumerate(nodes)}
        needs: dict[str, set[str]] = {}
        users: dict[str, list[str]] = {}
        for node in nodes:
            name = node.out.name
            own = {r for r in self.reads[name] if r in position} | before.get(name, set())
            if node.base in position:
                own.add(node.base)
            own.discard(name)
            needs[name] = own
            for r in own:
                users.setdefault(r, []).append(name)
        ready = [position[n] for n, own in needs.items() if not own]
        heapq.heapify(ready)
        order: list[Node] = []
        while ready:
            node = nodes[heapq.heappop(ready)]
            order.append(node)
            for user in users.get(node.out.name, []):
                needs[user].discard(node.out.name)
                if not needs[user]:
                    heapq.heappush(ready, position[user])
        return order if len(order) == len(nodes) else None


def _separate(graph: Graph) -> None:
    """Give every output memory of its own: an output that is an argument or an update's value is copied."""
    table = graph.values()
    taken = {a.value.name for a in graph.arguments} | {value for _, value in graph.updates}
    seen: set[str] = set()
    for n, name in enumerate(graph.outputs):
        if name in taken or name in seen:
            copy = _copy(table[name], f"output_{n}")
            graph.nodes.append(copy)
            graph.outputs[n] = copy.out.name
        seen.add(graph.outputs[n])
    claimed: set[str] = set()
    arguments = {a.value.name for a in graph.arguments}
    for n, (argument, final) in enumerate(graph.updates):
        if final in claimed or (final in arguments and final != argument):
            copy = _copy(table[final], f"update_{n}")
            graph.nodes.append(copy)
            graph.updates[n] = (argument, copy.out.name)
        claimed.add(graph.updates[n][1])
    graph.updates = [(a, f) for a, f in graph.updates if a != f]


def _copy(value: Value, name: str) -> Node:
    from onelaunch.graph.build import const
    from onelaunch.graph.build import var

    index = tuple(const(0) if e.is_const and e.value == 1 else var(f"i{d}", e) for d, e in enumerate(value.shape))
    body = load_value(value, index)
    out = Value(name, value.dtype, value.shape)
    return Node(out, Nest(tuple(i for i in index if i.op is Op.VAR), name, value.dtype, index, body), origin="copy")


def _on_storage(node: Node, storage: dict[str, str]) -> Node:
    """The node with loads and target naming storages."""

    def move(e: Expr) -> Expr | None:
        if e.op is Op.LOAD and e.attr in storage:
            return Expr.make(Op.LOAD, e.args, storage[e.attr], e.dtype)
        return None

    nest = node.nest
    if any(e.attr in storage for e in nest.loads()):
        memo: dict[Expr, Expr] = {}
        nest = nest.map(lambda root: rewrite(root, move, memo))
    nest = dataclasses.replace(nest, target=storage.get(node.out.name, node.out.name))
    return dataclasses.replace(node, nest=nest)
