"""Names that generated code must not take: the language's, and those of the headers and kernel signatures."""

from __future__ import annotations

_WORDS = """
alignas alignof and asm auto bool break case catch char class const constexpr continue default delete do double
else enum explicit export extern false float for friend goto if inline int long mutable namespace new not
nullptr operator or private protected public register return short signed sizeof static struct switch template
this throw true try typedef typename union unsigned using virtual void volatile while xor
args operands tile scratch bf16 fp16 exp expm1 log log1p log2 sin cos tanh sigmoid erf erfinv atan2 pow minimum
maximum floor_div floor_mod fmod trunc floor ceil round sign abs is_nan sqrt rsqrt checked storable to_float
from_float float_limits lowest highest linear linear_columns prepare prepare_columns attend load store sum
fma splat padded prefetch sum_each reduce y0 y1 yn j0 j1 jn
launch task stages producer thread_of_block lane_of_warp warp_of_block sync_block reduce_warp reduce_block exchange
operand steps last_position
"""
RESERVED = frozenset(_WORDS.split())
