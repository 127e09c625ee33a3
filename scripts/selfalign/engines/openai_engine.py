"""The engine for any server with an OpenAI-compatible /v1/completions: vllm serve, llama.cpp, Ollama, a paid service.

The server sees one request for each sample, with that sample's seed; how far the seed makes its answer reproducible
is the server's promise, not ours.
"""

import asyncio
import os
from collections.abc import Collection, Iterable, Iterator

from selfalign.engines.models import SERVED, Model
from selfalign.engines.port import TOO_LONG, Completion, EngineSettings, Request, Usage

RETRIES = 8  # with the library's back-off of 0.5 s to 8 s: about half a minute of refusals


class OpenAIEngine:
    """Sends requests to a server, at most `concurrency` at a time."""

    def __init__(self, model: Model, settings: EngineSettings):
        import openai

        self.openai = openai
        key = "none"
        if settings.api_key_env:
            key = os.environ.get(settings.api_key_env, "")
            if not key:
                raise ValueError(f"engine openai: the environment variable {settings.api_key_env} holds no key; set it")
        self.settings = settings
        self.options = {
            "base_url": settings.url,
            "api_key": key,
            "max_retries": RETRIES,
            "timeout": settings.timeout,
        }
        self.model = settings.model or model.name_or_path.removeprefix(SERVED)
        self.usage = Usage()
        with openai.OpenAI(**{**self.options, "max_retries": 2}) as client:
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
        requests = [request for request in requests if request.id not in done]
        queue = ((request, k) for request in requests for k in range(request.n))
        finished: dict[str, list[Completion]] = {request.id: [] for request in requests}
        with asyncio.Runner() as runner:
            client = self.openai.AsyncOpenAI(**self.options)
            running: set[asyncio.Task] = set()
            try:
                while True:
                    while len(running) < self.settings.concurrency and (job := next(queue, None)):
                        running.add(runner.get_loop().create_task(self._ask(client, *job)))
                    if not running:
                        break
                    ready, running = runner.run(_first(running))
                    for task in ready:
                        request, completion = task.result()
                        samples = finished[request.id]
                        samples.append(completion)
                        if len(samples) == request.n:
                            yield sorted(finished.pop(request.id), key=lambda sample: sample.k)
            except self.openai.OpenAIError as error:
                raise self._explain(error) from error
            finally:
                for task in running:
                    task.cancel()
                runner.run(client.close())

    async def _ask(self, client, request: Request, k: int) -> tuple[Request, Completion]:
        try:
            answer = await client.completions.create(
                model=self.model,
                prompt=request.prompt,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                stop=list(request.stop) or None,
                seed=request.seeds[k],
            )
        except self.openai.BadRequestError as error:
            if not any(hint in str(error) for hint in ("context length", "context size", "too long", "max_model_len")):
                raise
            refused = Completion(
                id=request.id, k=k, text="", finish_reason=TOO_LONG, prompt_tokens=0, completion_tokens=0
            )
            return request, refused
        choice, used = answer.choices[0], answer.usage
        prompt_tokens, completion_tokens = (used.prompt_tokens, used.completion_tokens) if used else (0, 0)
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        if used and used.prompt_tokens_details and used.prompt_tokens_details.cached_tokens is not None:
            known = self.usage.cached_prompt_tokens or 0
            self.usage.cached_prompt_tokens = known + used.prompt_tokens_details.cached_tokens
        completion = Completion(
            id=request.id,
            k=k,
            text=choice.text,
            finish_reason=choice.finish_reason or "no finish reason",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        return request, completion

    def _explain(self, error: Exception) -> ValueError:
        where = f"engine openai: {self.settings.url}"
        if isinstance(error, self.openai.AuthenticationError | self.openai.PermissionDeniedError):
            source = f"in {self.settings.api_key_env}" if self.settings.api_key_env else "(api_key_env names none)"
            return ValueError(f"{where} refuses the key {source}: {error}")
        if isinstance(error, self.openai.APITimeoutError):
            return ValueError(
                f"{where} has not answered within {self.settings.timeout:g} s; raise the engine's timeout or lower its "
                "concurrency; finished rows are kept"
            )
        if isinstance(error, self.openai.APIConnectionError):
            return ValueError(
                f"{where} cannot be reached ({error.__cause__ or error}); start the server or mend the engine's url, "
                "then run again: finished rows are kept"
            )
        return ValueError(f"{where} answered with an error: {error}; finished rows are kept")


async def _first(tasks: set[asyncio.Task]) -> tuple[set[asyncio.Task], set[asyncio.Task]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
