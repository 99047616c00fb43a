"""Errors that users meet. Each message is one line: the value, what is accepted, and the remedy where there is one."""

from __future__ import annotations


class OnelaunchError(Exception):
    """Base of all errors raised on purpose; the command line prints the message alone and exits with 2."""


class UserError(OnelaunchError):
    """An argument, option, file or tensor from the user is not acceptable."""


class OptionError(UserError):
    """An option is unknown or has a value outside what it accepts."""


class UnsupportedError(OnelaunchError):
    """A graph holds something that cannot be lowered; carries the reason that ``explain`` shows."""


class ProgramFormatError(OnelaunchError):
    """A stored program is damaged, of another version, or not a program."""


class CheckError(OnelaunchError):
    """A program failed its certificate and was refused before it could launch."""


class CompilerError(OnelaunchError):
    """The system compiler is absent or refused the generated source."""


class LaunchError(OnelaunchError):
    """A launch was aborted (an event was never reached); names worker, task, event, value seen and awaited."""


class AccessError(OnelaunchError):
    """A task touched memory outside what it declares, or read what nobody wrote (the reference target's debug mode)."""


class CallError(UserError):
    """A call passed tensors that the compiled program cannot take (dtype, device, shape, overlap)."""
