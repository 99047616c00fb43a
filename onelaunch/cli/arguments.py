"""The command's surface: what each subcommand takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

import onelaunch
from onelaunch.cli import artifact
from onelaunch.cli import doctor
from onelaunch.cli import trace
from onelaunch.cli.generate import Request
from onelaunch.cli.generate import run
from onelaunch.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors like all others: one line that names the value."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for anything it does not accept."""
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> Parser:
    """The whole command line. Parsed arguments carry ``run``, which does the work and may return an exit status."""
    parser = Parser(prog="onelaunch", description="Compiles a model's decode step into one launch.")
    parser.add_argument("--version", action="version", version=f"onelaunch {onelaunch.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="text from a real model", description=GENERATE))
    _add_program(commands.add_parser("program", help="look at a saved program", description=PROGRAM))
    _add_trace(commands.add_parser("trace", help="when every task of a launch ran", description=TRACE))
    _add_doctor(commands.add_parser("doctor", help="what works on this machine, and why not", description=DOCTOR))
    return parser


GENERATE = """Generate text: the prompt in plain torch, then each token with one launch of the compiled decode step.
Ends with a table of what it took."""


def _add_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("question", nargs="?", metavar="PROMPT", help="the same as --prompt")
    add("--prompt", help="what to say; default: a chat on standard input (text, or a JSON list of messages)")
    add("--model", metavar="PATH", help="a .gguf file or a folder of a transformers model; default: the packaged one")
    add("--batch", type=Path, metavar="FILE", help="a text file with one prompt a line, all decoded together")
    add("--max-new-tokens", type=int, default=256, metavar="N", help="the most tokens for a prompt (%(default)s)")
    add("--temperature", type=float, default=0.0, metavar="T", help="0, the default, takes the likeliest token")
    add("--top-p", type=float, default=1.0, metavar="P", help="sample from the likeliest tokens that reach this share")
    add("--seed", type=int, default=0, metavar="N", help="of the random numbers (%(default)s)")
    add("--target", default="auto", help="what the program runs on: auto (the default), cpu, cuda or reference")
    add("--raw", action="store_true", help="continue the text as it is, without the chat template")
    add("--compare", action="store_true", help="generate the same through plain transformers, and compare")
    add("--json", action="store_true", dest="as_json", help="print one JSON object instead of text and table")
    add(
        "--no-cached-start", action="store_false", dest="measure_cached",
        help="after a cold compilation, do not measure a cached start in a second process",
    )  # fmt: skip
    parser.set_defaults(run=_generate)


def _generate(given: argparse.Namespace) -> None:
    values = {name: value for name, value in vars(given).items() if name not in ("run", "question", "prompt")}
    run(Request(prompts=[text for text in (given.question, given.prompt) if text is not None], **values))


PROGRAM = """Look at a program that was saved to a file: what it holds, and its certificate."""


def _add_program(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a saved program (onelaunch.save, or program.txt of a dump_dir)")
    add("--print", action="store_true", dest="whole", help="print the whole program")
    add("--draw", type=Path, dest="drawing", metavar="PATH", help="write PATH.svg and PATH.queues.svg")
    add("--launches", type=int, default=0, metavar="N", help="launch it on made-up arguments and say how long it took")
    add("--target", default="auto", help="what it is launched on: auto (the default), cpu, cuda or reference")
    parser.set_defaults(run=_program)


def _program(given: argparse.Namespace) -> None:
    artifact.run(artifact.Request(**{name: value for name, value in vars(given).items() if name != "run"}))


TRACE = """Run decode steps of a model, or a saved program, and record when each task ran. Writes a trace for
ui.perfetto.dev and a picture, and ends with a table of what each kind of op took."""


def _add_trace(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("question", nargs="?", metavar="PROMPT", help="the same as --prompt")
    add("--prompt", help="what to say before the steps that are recorded; default: a short question")
    add("--model", metavar="PATH", help="a .gguf file or a folder of a transformers model; default: the packaged one")
    add("--batch", type=Path, metavar="FILE", help="a text file with one prompt a line, all decoded together")
    add("--raw", action="store_true", help="continue the text as it is, without the chat template")
    add("--program", type=Path, metavar="FILE", help="a saved program on made-up arguments, instead of a model")
    add("--target", default="auto", help="what it runs on: auto (the default), cpu or cuda")
    add("--steps", type=int, default=8, metavar="N", help="launches that are recorded (%(default)s)")
    add("--out", type=Path, default=Path("trace"), metavar="PATH", help="write PATH.json and PATH.svg (%(default)s)")
    add("--json", action="store_true", dest="as_json", help="print one JSON object instead of the table")
    parser.set_defaults(run=_trace)


def _trace(given: argparse.Namespace) -> None:
    values = {name: value for name, value in vars(given).items() if name not in ("run", "question", "prompt")}
    prompts = [text for text in (given.question, given.prompt) if text is not None]
    trace.run(trace.Request(prompts=prompts, **values))


DOCTOR = """Say what of this machine works with onelaunch, what does not, and why. A tiny program is really compiled and
run. The exit status is 0 if a compiled target works, otherwise 1."""


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object instead of a table")
    parser.add_argument("--vllm", action="store_true", help="also: would vLLM find what -cc.backend=onelaunch needs")
    parser.set_defaults(run=_doctor)


def _doctor(given: argparse.Namespace) -> int:
    return doctor.run(given.as_json, given.vllm)
