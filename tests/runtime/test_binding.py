"""Binding: every call reads what it is given now, and refuses by name what does not fit."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref

import pytest
import torch

from onelaunch.errors import CallError
from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.program.program import Buffer
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.runtime import binding as module
from onelaunch.runtime.binding import Binding
from tests.program.programs import buffer
from tests.program.programs import two_ops
from tests.runtime.fakes import Recorder
from tests.runtime.fakes import TwoOps

PROGRAM = two_ops()


def arguments(tokens: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(tokens)
    return [torch.randn(tokens, 8), torch.randn(8, 8).bfloat16(), torch.zeros(1, dtype=torch.int64)]


def expected(args: list[torch.Tensor]) -> torch.Tensor:
    return (args[0] + 1) @ args[1].float().T


def two() -> Binding:
    return Binding(PROGRAM, TwoOps(PROGRAM))


def of(*buffers: Buffer) -> tuple[Binding, Recorder]:
    program = Program("p", "cpu", (), buffers, (), (), (), (), (), 0)
    recorder = Recorder(program)
    return Binding(program, recorder), recorder


def test_results_are_fresh_and_state_is_written_in_place():
    bound, args = two(), arguments()
    first = bound.call(args, (3,))[0]
    second = bound.call(args, (3,))[0]
    torch.testing.assert_close(first, expected(args))
    assert torch.equal(first, second) and first.data_ptr() != second.data_ptr()
    assert args[2].item() == 2


def test_pointers_are_never_baked_in():
    bound, args = two(), arguments()
    bound.call(args, (3,))
    args[1].data = torch.randn(8, 8).bfloat16()  # the same object at another address
    torch.testing.assert_close(bound.call(args, (3,))[0], expected(args))
    args[0] = torch.randn(3, 8)  # another object
    torch.testing.assert_close(bound.call(args, (3,))[0], expected(args))
    other = torch.full((1,), 7)
    bound.call([*args[:2], other], (3,))
    assert other.item() == 8 and args[2].item() == 3


def test_tokens_under_the_bucket():
    bound = two()
    for tokens in (4, 1, 3, 2, 4):
        args = arguments(tokens)
        result = bound.call(args, (tokens,))[0]
        assert result.shape == (tokens, 8)
        torch.testing.assert_close(result, expected(args))


def test_no_tensor_is_kept_alive():
    bound, args = two(), arguments()
    refs = [weakref.ref(a) for a in args]
    bound.call(args, (3,))
    del args
    gc.collect()
    assert [r() for r in refs] == [None] * 3


def test_another_tensor_at_the_address_of_one_that_died_is_validated():
    bound, recorder = of(buffer("x", DType.F32, (4,), (1,), Role.INPUT, 0))
    memory = torch.zeros(16)
    for _ in range(50):
        bound.call([memory[:4]], ())
        with pytest.raises(CallError, match=r"argument 0 \(x\) is torch\.int32; accepted: torch\.float32"):
            bound.call([memory.view(torch.int32)[:4]], ())
        with pytest.raises(CallError, match=r"has shape \(5,\); accepted: \(4,\)"):
            bound.call([memory[:5]], ())
    assert len(recorder.calls) == 50


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(3, 8, dtype=torch.float64), r"argument 0 \(x\) is torch.float64; accepted: torch.float32"),
        (1, torch.zeros(8, 8), r"argument 1 \(w\) is torch.float32; accepted: torch.bfloat16"),
        (0, torch.zeros(3, 9), r"argument 0 \(x\) has shape \(3, 9\); accepted: \(3, 8\)"),
        (0, torch.zeros(2, 8), r"has shape \(2, 8\); accepted: \(3, 8\)"),
        (0, torch.zeros(24), r"has shape \(24,\); accepted: \(3, 8\)"),
        (0, torch.zeros(3, 8, device="meta"), r"argument 0 \(x\) is on meta; accepted: cpu"),
        (
            1,
            torch.zeros(8, 8).bfloat16().T,
            r"argument 1 \(w\) has strides \(1, 8\); accepted: \(8, 1\) \(only inputs up to",
        ),
        (2, 5, r"argument 2 \(counter\) is a int; accepted: a tensor"),
        (0, None, r"argument 0 \(x\) is a NoneType; accepted: a tensor"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(position: int, value: object, message: str):
    bound, args = two(), arguments()
    bound.call(args, (3,))
    wrong: list = list(args)
    wrong[position] = value
    for _ in range(2):
        with pytest.raises(CallError, match=message) as caught:
            bound.call(wrong, (3,))
        assert "\n" not in str(caught.value)
    torch.testing.assert_close(bound.call(args, (3,))[0], expected(args))
    assert args[2].item() == 2


def test_a_tensor_whose_storage_was_taken_away_is_refused():
    bound, args = two(), arguments()
    args[0].untyped_storage().resize_(8)
    with pytest.raises(CallError, match=r"argument 0 \(x\) has a storage of 8 bytes"):
        bound.call(args, (3,))


def test_small_inputs_of_other_strides_are_copied_at_every_call():
    bound, args = two(), arguments()
    args[0] = torch.randn(8, 3).T
    for _ in range(3):
        args[0].normal_()
        torch.testing.assert_close(bound.call(args, (3,))[0], expected(args))
    assert bound.copies == 3
    args[0] = args[0].contiguous()
    torch.testing.assert_close(bound.call(args, (3,))[0], expected(args))
    assert bound.copies == 3


def test_large_inputs_of_other_strides_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COPY_LIMIT", 95)
    with pytest.raises(
        CallError, match=r"has strides \(1, 3\); accepted: \(8, 1\) \(only inputs up to 95 bytes are copied"
    ):
        two().call([torch.randn(8, 3).T, *arguments()[1:]], (3,))


def test_strides_of_dimensions_of_size_one_do_not_matter():
    bound, args = two(), arguments(1)
    args[0] = torch.empty_strided((1, 8), (77, 1)).normal_()
    torch.testing.assert_close(bound.call(args, (1,))[0], expected(args))
    assert bound.copies == 0


def test_what_is_written_shares_no_memory():
    bound, recorder = of(
        buffer("cache", DType.F32, (4, 8), (8, 1), Role.STATE, 0),
        buffer("x", DType.F32, (8,), (1,), Role.INPUT, 1),
        buffer("w", DType.F32, (8,), (1,), Role.WEIGHT, 2),
    )
    cache, x, memory = torch.zeros(4, 8), torch.zeros(8), torch.zeros(64)
    bound.call([cache, x, x], ())  # what is only read may be shared
    message = r"argument 0 \(cache\), which is written in place, shares memory with argument 1 \(x\)"
    for _ in range(2):
        with pytest.raises(CallError, match=message):
            bound.call([cache, cache[2], x], ())
    with pytest.raises(CallError, match=message):
        bound.call([memory[:32].view(4, 8), memory[31:39], x], ())
    bound.call([memory[:32].view(4, 8), memory[32:40], x], ())
    bound.call([cache, memory[:8], x], ())
    with pytest.raises(CallError, match=message):
        bound.call([memory[:32].view(4, 8), memory[:8], x], ())
    assert len(recorder.calls) == 3
    bound.call([cache, memory[:8], x], ())
    bound.call([memory[:32].view(4, 8), x.clone(), x], ())  # where an input of the last call lay
    assert len(recorder.calls) == 5


def test_slices_that_interleave_share_no_memory():
    packed = torch.zeros(5, 2, 4, 8)
    shape, strides = (5, 4, 8), (64, 8, 1)
    bound, recorder = of(
        buffer("keys", DType.F32, shape, strides, Role.STATE, 0),
        buffer("values", DType.F32, shape, strides, Role.STATE, 1),
    )
    bound.call([packed[:, 0], packed[:, 1]], ())
    with pytest.raises(CallError, match="shares memory"):
        bound.call([packed[:, 0], packed[:, 0]], ())
    with pytest.raises(CallError, match="shares memory"):
        bound.call([packed[:, 0], packed.view(-1)[8:].as_strided(shape, strides)], ())
    assert len(recorder.calls) == 1


def test_scalars_and_empty_tensors():
    bound, recorder = of(
        buffer("step", DType.I64, (), (), Role.STATE, 0), buffer("none", DType.F32, (0, 4), (4, 1), Role.INPUT, 1),
        buffer("out", DType.F32, (), (), Role.OUTPUT, 1), buffer("nothing", DType.F32, (0, 3), (3, 1), Role.OUTPUT, 0),
    )  # fmt: skip
    results = bound.call([torch.tensor(3), torch.empty(0, 4)], ())
    assert results[1].shape == () and results[0].shape == (0, 3)
    assert len(recorder.calls) == 1


def test_outputs_have_the_strides_of_the_program():
    bound, recorder = of(buffer("out", DType.BF16, (2, 3), (1, 2), Role.OUTPUT, 0))
    (result,) = bound.call([], ()).values()
    assert result.stride() == (1, 2) and result.dtype is torch.bfloat16
    assert recorder.calls[0][0] == [result.data_ptr()]
    assert const(2) in bound.program.buffers[0].shape


def test_threads_take_turns():
    bound = two()
    bound.executable.pause = 0.001
    counter = torch.zeros(1, dtype=torch.int64)
    failures: list[BaseException] = []

    def work(tokens: int) -> None:
        try:
            for _ in range(20):
                args = [*arguments(tokens)[:2], counter]
                torch.testing.assert_close(bound.call(args, (tokens,))[0], expected(args))
        except (AssertionError, CallError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures and counter.item() == 80


def test_a_child_forked_during_a_call_of_another_thread():
    bound, args = two(), arguments()
    want = bound.call(args, (3,))[0]
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with bound.lock:
            held.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if torch.equal(bound.call(args, (3,))[0], want) else 2
        finally:
            os._exit(code)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(bound.call(args, (3,))[0], want)
