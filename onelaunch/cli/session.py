"""One run of ``onelaunch generate``: the loaded model, the turns taken, and the table at the end."""

from __future__ import annotations

import json
from contextlib import ExitStack

from onelaunch.cli import conversation
from onelaunch.cli import place
from onelaunch.cli.cached_start import CachedStart
from onelaunch.cli.cached_start import measure_cached_start
from onelaunch.cli.conversation import Message
from onelaunch.cli.generate import Request
from onelaunch.cli.programs import programs_used
from onelaunch.cli.programs import snapshot
from onelaunch.cli.screen import Screen
from onelaunch.cli.summary import Comparison
from onelaunch.cli.summary import Summary
from onelaunch.models.agreement import compare_tokens
from onelaunch.models.detokenize import StreamDecoder
from onelaunch.models.generation import Generation
from onelaunch.models.generation import Generator
from onelaunch.models.generation import OnToken
from onelaunch.models.plain import forced_choices
from onelaunch.models.plain import generate_plain
from onelaunch.models.sampling import Sampler


class Session:
    """Loads the model when made. Each answer is generated with the same compiled step.

    Args:
        request: what the user asked for, already checked.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._screen = Screen()
        with self._screen.stage("Loading the model") as progress:
            self.loaded = place.load(request.model, request.target, progress)
        self._screen.note(f"{self.loaded.name}: {self.loaded.weights}; {place.shown(self.loaded)}")
        self._generator = Generator(self.loaded, options={"target": request.target})
        self._before: dict[int, int] = {}
        self._prompts: list[list[int]] = []
        self._result: Generation | None = None

    def talk(self) -> None:
        """A conversation at the terminal, until its end (Ctrl-D) or an empty line."""
        chat: list[Message] = []
        self._screen.note("Chat with the model; an empty line or Ctrl-D ends it.")
        while text := self._ask():
            chat.append({"role": "user", "content": text})
            chat.append({"role": "assistant", "content": self.answer(chat)})

    @staticmethod
    def _ask() -> str:
        try:
            return input("> ").strip()
        except EOFError:
            return ""

    def answer(self, chat: list[Message]) -> str:
        """Answer one chat, writing the text as it comes."""
        prompt = conversation.encode(self.loaded.tokenizer, chat, self._request.raw)
        decoder = StreamDecoder(self.loaded.tokenizer)
        pieces: list[str] = []
        with ExitStack() as compiling:
            compiling.enter_context(self._screen.stage("Compiling the decode step to one program"))

            def show(row: int, token: int) -> None:
                pieces.append(decoder.push(token))
                if len(pieces) == 2:  # the first token comes from the prompt, before the step is compiled
                    compiling.close()
                    self._write("".join(pieces))
                elif len(pieces) > 2:
                    self._write(pieces[-1])

            self._generate([prompt], show)
        unwritten = pieces[:1] if len(pieces) == 1 else []
        pieces.append(decoder.finish())
        self._write("".join(unwritten) + pieces[-1] + "\n")
        return "".join(pieces)

    def answer_all(self, chats: list[list[Message]]) -> None:
        """Answer several chats, decoded together; each is written when all are done."""
        prompts = [conversation.encode(self.loaded.tokenizer, chat, self._request.raw) for chat in chats]
        counts = [0] * len(prompts)
        with self._screen.stage(f"Compiling, then answering {len(prompts)} prompts together") as progress:

            def show(row: int, token: int) -> None:
                counts[row] += 1
                progress(max(counts), self._request.max_new_tokens)

            result = self._generate(prompts, show)
        for chat, text in zip(chats, self._texts(result), strict=True):
            self._write(f"> {chat[-1]['content']}\n{text}\n\n")

    def _generate(self, prompts: list[list[int]], on_token: OnToken) -> Generation:
        self._before = snapshot()
        result = self._generator.generate(prompts, self._request.max_new_tokens, self._sampler(), on_token)
        self._prompts, self._result = prompts, result
        return result

    def _sampler(self) -> Sampler:
        return Sampler(self._request.temperature, self._request.top_p, self._request.seed)

    def _texts(self, result: Generation) -> list[str]:
        return [self.loaded.tokenizer.decode(row, skip_special_tokens=True) for row in result.tokens]

    def _write(self, text: str) -> None:
        if not self._request.as_json:
            self._screen.write(text)

    def conclude(self) -> None:
        """The table, or the JSON object, about the last answer; nothing if there was none."""
        if self._result is None:
            return
        programs = programs_used(self._before)
        summary = Summary(
            model=self.loaded,
            prompts=self._prompts,
            generation=self._result,
            programs=programs,
            cached_start=self._cached_start(cold=programs is not None and not programs.cached),
            comparison=self._compare(self._result) if self._request.compare else None,
        )
        if self._request.as_json:
            self._screen.write(json.dumps(summary.as_json(self._texts(self._result))) + "\n")
        else:
            self._screen.table(summary.rows())

    def _cached_start(self, cold: bool) -> CachedStart | None:
        if not cold or not self._request.measure_cached:
            return None
        with self._screen.stage("Measuring a cached start in a second process"):
            return measure_cached_start(
                self.loaded.path, self._request.target, [len(p) for p in self._prompts], self._request.max_new_tokens
            )

    def _compare(self, result: Generation) -> Comparison:
        with self._screen.stage("The same through plain transformers"):
            plain = generate_plain(self.loaded, self._prompts, self._request.max_new_tokens, self._sampler())
            forced = self._forced(result) if self._sampler().greedy else None
        return Comparison(plain, compare_tokens(result.tokens, plain.tokens), forced)

    def _forced(self, result: Generation) -> int:
        rows = zip(self._prompts, result.tokens, strict=True)
        pairs = [zip(row, forced_choices(self.loaded, prompt, row), strict=True) for prompt, row in rows if row]
        return sum(ours == theirs for pair in pairs for ours, theirs in pair)
