"""Streaming text: pieces add up to the whole, and no piece ends inside a character."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from hypothesis import settings

from onelaunch.models.detokenize import REPLACEMENT
from onelaunch.models.detokenize import StreamDecoder
from tests.models.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters=REPLACEMENT), max_size=40))
def test_pieces_add_up(text):
    decoder = StreamDecoder(TOKENIZER)
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    pieces = [decoder.push(token) for token in ids]
    assert all(REPLACEMENT not in piece for piece in pieces)
    assert "".join(pieces) + decoder.finish() == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_a_character_waits_for_its_last_byte():
    decoder = StreamDecoder(TOKENIZER)
    pieces = [decoder.push(token) for token in TOKENIZER("a🦊b").input_ids]
    assert pieces == ["a", "", "", "", "🦊", "b"]
    assert decoder.finish() == ""


def test_what_stays_incomplete_is_given_out_at_the_end():
    decoder = StreamDecoder(TOKENIZER)
    first = TOKENIZER("🦊").input_ids[0]
    assert decoder.push(first) == ""
    assert decoder.finish() == REPLACEMENT


def test_special_tokens_are_left_out():
    decoder = StreamDecoder(TOKENIZER)
    ids = TOKENIZER("<|user|>hi<|end|>").input_ids
    assert "".join(decoder.push(token) for token in ids) == "hi"
