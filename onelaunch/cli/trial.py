"""A tiny program, really built and run: the proof that a target works on this machine.

It runs in a process of its own (``python -m onelaunch.cli.trial TARGET``), because what is wrong with a machine may end
a process: an instruction that the CPU lacks, a driver that crashes, a compiler that never returns.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from dataclasses import dataclass

from onelaunch.errors import OnelaunchError
from onelaunch.program.program import VERSION
from onelaunch.program.program import Program

TIMEOUT = 300  # seconds; a cold compilation takes a few

# y = (x + 1) @ w.T by two workers, the second op waiting for both halves of the first: generated loops, a hand-written
# product and an event.
TEXT = f"""onelaunch program {VERSION}
name "trial"
machine "trial"
workspace 256
buffer 0 input x: f32[2, 32] strides [32, 1] argument 0
buffer 1 weight w: bf16[16, 32] strides [32, 1] argument 1
buffer 2 workspace h: f32[2, 32] strides [32, 1] at 0
buffer 3 output y: f32[2, 16] strides [16, 1] argument 0
kernel 0
  operand x: f32[2, 32] strides [32, 1]
  operand out: f32[2, 32] strides [32, 1]
  for i < 2, j < 32
    store f32 %out[i, j] = %x[i, j] + 1.0
kernel 1
  operand x: f32[2, 32] strides [32, 1]
  operand w: bf16[16, 32] strides [32, 1]
  operand out: f32[2, 16] strides [16, 1]
  for i < 2, j < 16
    contract k < 32
      x = %x[i, k]
      w = %w[j, k]
    store f32 %out[i, j] = @0
event 0 total 2 scope device home 0
op 0 "rows add"
op 1 "linear product"
task 0 op 0 kernel 0 on 0 2 tile 0:2 0:16 signals 0 reads 0[0:2,0:16] writes 2[0:2,0:16]
task 1 op 0 kernel 0 on 0 2 tile 0:2 16:32 signals 0 reads 0[0:2,16:32] writes 2[0:2,16:32]
task 2 op 1 kernel 1 on 2 1 3 tile 0:2 0:8 waits 0>=2 reads 2[0:2,0:32] 1[0:8,0:32] writes 3[0:2,0:8]
task 3 op 1 kernel 1 on 2 1 3 tile 0:2 8:16 waits 0>=2 reads 2[0:2,0:32] 1[8:16,0:32] writes 3[0:2,8:16]
queue 0 tasks 0 2
queue 1 tasks 1 3
end
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went. ``reason``: why the target does not work; None: it does."""

    reason: str | None
    build_seconds: float | None = None
    launch_us: float | None = None


def program() -> Program:
    """The tiny program."""
    from onelaunch.program.text import parse_program

    return parse_program(TEXT)


def attempt(target: str) -> Trial:
    """Build and run it here, past the disk cache. Whatever goes wrong is the trial's result, not an error."""
    try:
        return _attempt(target)
    except OnelaunchError as error:
        return Trial(" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001 a broken machine breaks anything, and saying so is the purpose
        return Trial(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _attempt(target: str) -> Trial:
    import torch

    from onelaunch.frontend.options import Options
    from onelaunch.runtime.run import Runner

    start = time.perf_counter()
    runner = Runner(program(), Options(target=target, cache=False))
    built = time.perf_counter() - start
    x = torch.arange(64, dtype=torch.float32).reshape(2, 32) / 16
    w = (torch.arange(512).reshape(16, 32) % 7 - 3).to(torch.bfloat16)
    wanted = (x + 1) @ w.float().T
    arguments = [x.to(runner.device), w.to(runner.device)]
    start = time.perf_counter()
    found = runner(arguments)[0].cpu()
    taken = time.perf_counter() - start
    if not torch.allclose(found, wanted, rtol=1e-5, atol=1e-4):
        return Trial(f"the tiny program gives {found[0, 0].item():.6g} where {wanted[0, 0].item():.6g} is right")
    return Trial(None, built, 1e6 * taken)


def attempt_apart(target: str) -> Trial:
    """The same in another process, which may crash or hang without harm."""
    command = [sys.executable, "-m", "onelaunch.cli.trial", target]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return Trial(f"the tiny program was not done after {TIMEOUT} s")
    except OSError as error:
        return Trial(f"{sys.executable} cannot be started: {error}")
    if done.returncode < 0:
        return Trial(f"the process that ran the tiny program was ended by {_signal(-done.returncode)}")
    try:
        return Trial(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Trial(f"the process that ran the tiny program failed with status {done.returncode}: {last}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(asdict(attempt(sys.argv[1]))) + "\n")
