"""The engine for any server with an OpenAI-compatible /v1/completions: vllm serve, llama.cpp, Ollama, a paid service.

The server sees one request for each sample, with that sample's seed; how far the seed makes its answer reproducible
is the server's promise, not ours. What it fails at is tried again (`selfalign.engines.patience`); a row that it refuses
or, while it answers others, never answers is a completion with that as its finish reason; what would hit all rows stops
the stage. Where no other row is left to tell the two apart, one that was answered before is asked again.
"""

import asyncio
import json
import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator

from selfalign.engines.models import SERVED, Model
from selfalign.engines.patience import TRIES, GaveUp, Patience, read_retry_after
from selfalign.engines.port import TOO_LONG, UNANSWERED, Completion, EngineSettings, Request, Usage
from selfalign.engines.text import cut_at_stop

REFUSED = "refused by the server"
FILTERED = "content_filter"
LEFT_OUT = (REFUSED, FILTERED, UNANSWERED)
LONGEST = 200_000  # characters of a text, far beyond any max_tokens: some servers know no limit
STREAK = 16  # requests of those, without a completion in between: not the rows are to blame
FATAL = (401, 402, 404)  # key, account, model
AGAIN = (408, 409, 425, 429)  # beside those of 500 and above
LONG_HINTS = ("context length", "context size", "too long", "max_model_len")
SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can hold them alone, a file cannot


class OpenAIEngine:
    """Sends requests to a server, at most `concurrency` at a time."""

    def __init__(self, model: Model, settings: EngineSettings):
        import openai

        self.openai = openai
        self._failures = (openai.OpenAIError, TimeoutError, json.JSONDecodeError, _Malformed)
        key = "none"
        if settings.api_key_env:
            key = os.environ.get(settings.api_key_env, "")
            if not key:
                raise ValueError(f"engine openai: the environment variable {settings.api_key_env} holds no key; set it")
        self.settings = settings
        self.options = {"base_url": settings.url, "api_key": key, "timeout": settings.timeout}
        self.model = settings.model or model.name_or_path.removeprefix(SERVED)
        self.usage = Usage()
        self._completes = False
        self._known: Request | None = None  # one that was answered
        self._checking = False
        self._said: set[str] = set()
        with openai.OpenAI(**self.options, max_retries=2) as client:
            try:
                served = [entry.id for entry in client.models.list()]
            except openai.NotFoundError:  # a server without a list of models
                served = []
            except openai.OpenAIError as error:
                raise self._explain(error) from error
        if served and self.model not in served:
            raise ValueError(
                f"engine openai: {settings.url} does not serve the model {self.model!r}; set the engine's model to one "
                f"that it does: {', '.join(served[:10])}"
            )

    def complete(self, requests: Iterable[Request], done: Collection[str] = ()) -> Iterator[list[Completion]]:
        """Yield the samples of each request as soon as all are finished (see `Engine.complete`)."""
        self._completes |= bool(done)
        requests = list(requests)
        self._known = next((request for request in requests if request.id in done), self._known)
        requests = [request for request in requests if request.id not in done]
        queue = ((request, k) for request in requests for k in range(request.n))
        finished: dict[str, list[Completion]] = {request.id: [] for request in requests}
        patience = Patience(self.settings.patience)
        held: list[tuple[Request, Completion]] = []  # left out, until a completion shows that it was the rows' fault
        with asyncio.Runner() as runner:
            client = self.openai.AsyncOpenAI(**self.options, max_retries=0)
            running: set[asyncio.Task] = set()
            try:
                while True:
                    while len(running) < self.settings.concurrency and (job := next(queue, None)):
                        running.add(runner.get_loop().create_task(self._ask(client, patience, *job)))
                    if running:
                        ready, running = runner.run(_first(running))
                        failures = [error for task in ready if (error := task.exception())]
                        if failures:
                            raise failures[0]
                        held += [task.result() for task in ready]
                        if all(completion.finish_reason in LEFT_OUT for _, completion in held):
                            self._check_streak(len({request.id for request, _ in held}), STREAK)
                            continue
                        self._completes = True
                    elif not held:
                        break
                    elif not self._completes:
                        self._check_streak(len({request.id for request, _ in held}), 2)
                    for request, completion in held:
                        samples = finished[request.id]
                        samples.append(completion)
                        if len(samples) == request.n:
                            yield sorted(finished.pop(request.id), key=lambda sample: sample.k)
                    held = []
            finally:
                runner.run(_end(running, client))

    def _check_streak(self, requests: int, too_many: int) -> None:
        if requests >= too_many:
            raise ValueError(
                f"engine openai: {self.settings.url} completes none of {requests} requests one after the other, for "
                "the reason above; finished rows are kept"
            )

    async def _ask(self, client, patience: Patience, request: Request, k: int) -> tuple[Request, Completion]:
        """Return the sample, after as many tries as it takes.

        Raises:
            ValueError: the server fails for all.
        """
        tries = blamed = 0
        failed_at = -math.inf
        while True:
            if (wait := patience.resume - time.monotonic()) > 0:
                await asyncio.sleep(wait)
                continue
            try:
                answer = await self._create(client, request, k, request.max_tokens)
                completion = self._read(answer, request, k)
                patience.answered()
                self._known = request
                return request, completion
            except self._failures as error:
                status = getattr(error, "status_code", None)
                code = getattr(error, "code", None)
                if status in FATAL or code == "insufficient_quota":
                    raise self._explain(error) from error
                if status is not None and 400 <= status < 500 and status not in AGAIN:
                    patience.answered()
                    return request, self._refused(error, code, request, k)
                tries += 1
                # The fault may be the server's, unless it has answered another request since the last failure of this.
                if (
                    tries == 1
                    or patience.last_answer > failed_at
                    or (status != 429 and await self._works(client, patience))
                ):
                    blamed += 1
                failed_at = time.monotonic()
                if blamed >= TRIES and status != 429:
                    self._say(f"leaves a request without an answer after {tries} tries: {_short(error)}")
                    return request, _without_text(request, k, UNANSWERED)
                try:
                    headers = error.response.headers if status is not None else {}
                    wait = patience.failed(tries, read_retry_after(headers))
                except GaveUp as gave_up:
                    raise self._explain(error, f" {gave_up}") from error
                if wait >= 10:
                    self._say(f"fails ({_short(error)}); trying again, the first time in {wait:.0f} s")
                await asyncio.sleep(wait)

    async def _create(self, client, request: Request, k: int, max_tokens: int):
        async with asyncio.timeout(self.settings.timeout):
            return await client.completions.create(
                model=self.model,
                prompt=request.prompt,
                max_tokens=max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                stop=list(request.stop) or None,
                seed=request.seeds[k],
            )

    async def _works(self, client, patience: Patience) -> bool:
        """Return whether the server answers a request that it has answered before; one such at a time."""
        if self._known is None or self._checking:
            return False
        self._checking = True
        try:
            answer = await self._create(client, self._known, 0, 1)
        except self._failures:
            return False
        finally:
            self._checking = False
        if not getattr(answer, "choices", None):
            return False
        patience.answered()
        return True

    def _read(self, answer, request: Request, k: int) -> Completion:
        choices = getattr(answer, "choices", None)
        if not choices or not isinstance(choices[0].text, str | None):
            raise _Malformed("an answer without a completion")
        choice, used = choices[0], answer.usage
        prompt_tokens, completion_tokens = (used.prompt_tokens or 0, used.completion_tokens or 0) if used else (0, 0)
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        if used and used.prompt_tokens_details and used.prompt_tokens_details.cached_tokens is not None:
            known = self.usage.cached_prompt_tokens or 0
            self.usage.cached_prompt_tokens = known + used.prompt_tokens_details.cached_tokens
        # Not every server knows stop strings, or all of them.
        text, stopped = cut_at_stop(SURROGATES.sub("\ufffd", choice.text or ""), request.stop)
        finish_reason = "stop" if stopped else choice.finish_reason or "no finish reason"
        if len(text) > LONGEST:
            text, finish_reason = text[:LONGEST], "length"
        return Completion(
            id=request.id,
            k=k,
            text=text,
            finish_reason=finish_reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def _refused(self, error: Exception, code: str | None, request: Request, k: int) -> Completion:
        if any(hint in str(error) for hint in LONG_HINTS):
            return _without_text(request, k, TOO_LONG)
        self._say(f"refuses a request: {_short(error)}")
        return _without_text(request, k, FILTERED if code == FILTERED else REFUSED)

    def _say(self, text: str) -> None:
        """Print what happened, once."""
        if text not in self._said:
            self._said.add(text)
            print(f"engine openai: {self.settings.url} {text}", file=sys.stderr, flush=True)

    def _explain(self, error: Exception, how_long: str = "") -> ValueError:
        where = f"engine openai: {self.settings.url}"
        if isinstance(error, self.openai.AuthenticationError | self.openai.PermissionDeniedError):
            source = f"in {self.settings.api_key_env}" if self.settings.api_key_env else "(api_key_env names none)"
            return ValueError(f"{where} refuses the key {source}: {_short(error)}")
        if isinstance(error, self.openai.APITimeoutError | TimeoutError):
            return ValueError(
                f"{where} has not answered within {self.settings.timeout:g} s, again and again{how_long}; raise the "
                "engine's timeout or lower its concurrency; finished rows are kept"
            )
        if isinstance(error, self.openai.APIConnectionError):
            return ValueError(
                f"{where} cannot be reached{how_long} ({error.__cause__ or error}); start the server or mend the "
                "engine's url, then run again: finished rows are kept"
            )
        return ValueError(f"{where} answered with an error{how_long}: {_short(error)}; finished rows are kept")


class _Malformed(Exception):
    """An answer that is none."""


def _without_text(request: Request, k: int, reason: str) -> Completion:
    return Completion(id=request.id, k=k, text="", finish_reason=reason, prompt_tokens=0, completion_tokens=0)


def _short(error: Exception) -> str:
    """Return an error's message on one line, of moderate length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


async def _end(tasks: set[asyncio.Task], client) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


async def _first(tasks: set[asyncio.Task]) -> tuple[set[asyncio.Task], set[asyncio.Task]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
