"""Prompts from where users put them: an argument, standard input, or a file of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from typing import TextIO

from onelaunch.errors import UserError

Message = dict[str, str]
ROLES = ("system", "user", "assistant")


def from_prompt(text: str) -> list[Message]:
    """A chat of one question. Raises UserError if it is empty."""
    if not text.strip():
        raise UserError("the prompt is empty; give some text")
    return [{"role": "user", "content": text}]


def from_stream(stream: TextIO) -> list[Message]:
    """A chat from piped standard input: a JSON list of ``{"role": ..., "content": ...}``, else text as one question."""
    try:
        text = stream.read()
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from None
    if not text.lstrip().startswith("["):
        return from_prompt(text)
    try:
        chat = json.loads(text)
    except ValueError:
        return from_prompt(text)  # text that happens to begin with a bracket
    return _checked(chat)


def _checked(chat: Any) -> list[Message]:
    accepted = 'accepted: [{"role": "user", "content": "..."}, ...] with roles ' + ", ".join(ROLES)
    if not isinstance(chat, list) or not chat:
        raise UserError(f"the chat on standard input is empty; {accepted}")
    for number, message in enumerate(chat, 1):
        fine = isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
        if not fine:
            raise UserError(f"message {number} of the chat on standard input is not understood; {accepted}")
    if chat[-1]["role"] != "user" or not chat[-1]["content"].strip():
        raise UserError("the chat on standard input must end with something the user says")
    return [{"role": message["role"], "content": message["content"]} for message in chat]


def from_file(path: Path) -> list[list[Message]]:
    """One chat for each line that is not blank. Raises UserError if the file cannot be read or has no such line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read the batch file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"the batch file {path} is not UTF-8 text (byte {error.start})") from None
    chats = [from_prompt(line) for line in lines if line.strip()]
    if not chats:
        raise UserError(f"the batch file {path} holds no prompt; one prompt a line is accepted")
    return chats


def encode(tokenizer: Any, chat: list[Message], raw: bool) -> list[int]:
    """The chat's token ids, ready for an answer: through the chat template, or the last text as it is."""
    if raw or not tokenizer.chat_template:
        return [int(i) for i in tokenizer(chat[-1]["content"]).input_ids]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    return [int(i) for i in ids]
