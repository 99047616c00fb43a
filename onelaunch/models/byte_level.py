"""What transformers gets wrong about some byte-level vocabularies that come in a GGUF file.

*Digits.* The file names its split rule after the model it came from (``tokenizer.ggml.pre``), and transformers knows
some of these names; for the others it takes GPT-2's rule, which keeps runs of digits together with a space before them.
Where merges were learned with each digit apart, text such as ``"a  12"`` then gives other tokens than the model was
trained on. The vocabulary itself shows how it was learned, so no list of names is needed.

*Spaces.* transformers before 5.20 decodes some of these vocabularies as if they were SentencePiece's, and drops a space
at the beginning.
"""

from __future__ import annotations

from typing import Any

from tokenizers import decoders
from tokenizers import pre_tokenizers


def digits_apart(tokens: list[str]) -> bool:
    """Whether no token holds a digit beside anything else, in a vocabulary that has all ten digits."""
    digits = set("0123456789")
    with_digit = [token for token in tokens if not digits.isdisjoint(token)]
    return digits <= set(with_digit) and all(len(token) == 1 for token in with_digit)


def correct_byte_level(tokenizer: Any) -> None:
    """Split single digits off where the vocabulary was learned so and the split is GPT-2's; decode bytes as bytes.

    Args:
        tokenizer: a fast tokenizer whose vocabulary is byte-level BPE; changed in place.
    """
    backend = tokenizer.backend_tokenizer
    backend.decoder = decoders.ByteLevel()
    tokenizer.clean_up_tokenization_spaces = False
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return
    added = set(tokenizer.get_added_vocab())
    if digits_apart([token for token in backend.get_vocab(with_added_tokens=False) if token not in added]):
        apart = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([apart, backend.pre_tokenizer])
