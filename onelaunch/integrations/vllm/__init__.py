"""Decode steps of stock vLLM as one launch. Nothing here is imported unless vLLM asks for it (docs/vllm.md)."""
