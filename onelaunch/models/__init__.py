"""Models for text generation: loading them, and a generation loop around a compiled decode step.

Needs the ``models`` extra. Nothing here knows an architecture: files say what they hold, transformers builds it.
"""
