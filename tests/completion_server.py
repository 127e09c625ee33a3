"""A small OpenAI-compatible server for tests, on loopback: an engine's answers, or what a test plans instead."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from selfalign.engines.port import TOO_LONG, Request

KEY = "sesame"


Plan = Callable[[int, dict], "Callable[[_Handler, dict], None] | None"]


def status(code: int, message: str, *, error: str | None = None, **headers: str):
    """Return what answers with an error."""

    def act(handler: "_Handler", _: dict) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.answer(code, {"error": {"message": message, "code": error}}, named)

    return act


def hang_up(handler: "_Handler", _: dict) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def wait(seconds: float):
    """Return what answers as ever, but late."""

    def act(handler: "_Handler", body: dict) -> None:
        time.sleep(seconds)
        handler.complete(body)

    return act


def body(text: str, **headers: str):
    """Return what answers 200 with any body."""

    def act(handler: "_Handler", _: dict) -> None:
        handler.send(200, text.encode(), headers)

    return act


def say(text: str, finish_reason: str = "stop"):
    """Return what answers with a text."""
    return lambda handler, asked: handler.answer(200, completion(asked, text, finish_reason))


def say_late(text: str, seconds: float):
    """Return what answers with a text after a while."""

    def act(handler: "_Handler", asked: dict) -> None:
        time.sleep(seconds)
        say(text)(handler, asked)

    return act


def completion(asked: dict, text: str, finish_reason: str, prompt_tokens: int = 1, completion_tokens: int = 1) -> dict:
    """Return the body of a good answer."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    total = {"total_tokens": prompt_tokens + completion_tokens}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, **total}
    whole = {"id": "c", "object": "text_completion", "created": 0, "model": asked["model"], "choices": [choice]}
    return {**whole, "usage": usage}


def refuse_first(number: int, _: dict):
    """Answer the first request with 429, as busy servers do."""
    return status(429, "slow down") if number == 0 else None


class CompletionServer(ThreadingHTTPServer):
    """Serves one engine under one model name.

    Args:
        engine: What completes; None when the plan answers everything.
        plan: What to do with the request of a number and a body; None is to complete it.

    Attributes:
        base: The URL.
        asked: Bodies of all requests for completions, in order.
        times: When each of them came.
    """

    daemon_threads = True

    def __init__(self, engine, name: str, plan: Plan = refuse_first, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.engine, self.name, self.plan = engine, name, plan
        self.lock, self.at_engine = threading.Lock(), threading.Lock()
        self.asked: list[dict] = []
        self.times: list[float] = []
        self.base = f"http://127.0.0.1:{self.server_port}/v1"
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: CompletionServer

    def log_message(self, *_):
        """Keep the tests' output quiet."""

    def do_GET(self):
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.answer(401, {"error": {"message": "Incorrect API key provided"}})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": self.server.name, "object": "model"}]})
        else:
            self.answer(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions"
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append(asked)
            self.server.times.append(time.monotonic())
        act = self.server.plan(number, asked) or _Handler.complete
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it waited no longer
            act(self, asked)

    def complete(self, asked: dict) -> None:
        """Answer with what the engine writes."""
        request = Request(
            id="one",
            prompt=asked["prompt"],
            max_tokens=asked["max_tokens"],
            temperature=asked["temperature"],
            top_p=asked["top_p"],
            stop=tuple(asked.get("stop") or ()),
            seeds=(asked["seed"],),
        )
        with self.server.at_engine:
            [[done]] = self.server.engine.complete([request])
        if done.finish_reason == TOO_LONG:
            limit = self.server.engine.max_model_len
            message = f"This model's maximum context length is {limit} tokens; your request has more."
            self.answer(400, {"error": {"message": message}})
            return
        self.answer(200, completion(asked, done.text, done.finish_reason, done.prompt_tokens, done.completion_tokens))

    def answer(self, code: int, value: dict, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send(code, json.dumps(value).encode(), headers or {})

    def send(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        """Answer with bytes."""
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
