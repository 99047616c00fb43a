"""The ``onelaunch`` command. ``generate`` needs the extras ``cli`` and ``models``."""

from __future__ import annotations

import os
import sys

from onelaunch.errors import OnelaunchError

USER_ERROR = 2  # the exit status for what the user can mend
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 where ``doctor`` finds no compiled target that works, 2 after an
    error the user can mend, 130 after Ctrl-C.

    Errors raised on purpose are one line on standard error; anything else is our bug and keeps its traceback.
    """
    from onelaunch.cli.arguments import make_parser

    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars would run through ours
    try:
        given = make_parser().parse_args(arguments)
        return given.run(given) or 0
    except OnelaunchError as error:
        print(f"onelaunch: error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
