"""Text from token ids as they come: never half a character."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\ufffd"  # what an incomplete UTF-8 sequence decodes to


class StreamDecoder:
    """Turns one sequence's token ids into pieces of text whose concatenation is the decoded whole.

    A byte-level token may end inside a character, and some decoders join a token to the one before it. So the last
    piece is decoded again together with the new token, and text is held back while it ends in an incomplete character.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context = 0  # ids from here on are decoded again, for joins with what follows
        self._done = 0  # ids up to here have been given out

    def push(self, token_id: int) -> str:
        """Add one id; returns the text that it completes, which may be empty."""
        self._ids.append(token_id)
        before, now = self._decode(self._context, self._done), self._decode(self._context, None)
        if now.endswith(REPLACEMENT) or len(now) <= len(before):
            return ""
        self._context, self._done = self._done, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """What was held back; an incomplete character comes out as the replacement character."""
        before, now = self._decode(self._context, self._done), self._decode(self._context, None)
        self._context = self._done = len(self._ids)
        return now[len(before) :]

    def _decode(self, start: int, end: int | None) -> str:
        ids = self._ids[start:end]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
