"""A small OpenAI-compatible server for tests: /v1/completions answered by the transformers engine, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from selfalign.engines.port import TOO_LONG, Request

KEY = "sesame"


class CompletionServer(ThreadingHTTPServer):
    """Serves one engine under one model name; `base` is its URL, `asked` the bodies of the requests it accepted.

    Its first answer to a completion is 429 (too many requests), as busy servers give.
    """

    daemon_threads = True

    def __init__(self, engine, name: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine, self.name = engine, name
        self.lock = threading.Lock()
        self.refusals = 1
        self.asked: list[dict] = []
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
            self._answer(401, {"error": {"message": "Incorrect API key provided"}})
        elif self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": self.server.name, "object": "model"}]})
        else:
            self._answer(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions"
        with self.server.lock:
            if self.server.refusals:
                self.server.refusals -= 1
                self._answer(429, {"error": {"message": "slow down"}})
                return
            self.server.asked.append(body)
            request = Request(
                id="one",
                prompt=body["prompt"],
                max_tokens=body["max_tokens"],
                temperature=body["temperature"],
                top_p=body["top_p"],
                stop=tuple(body.get("stop") or ()),
                seeds=(body["seed"],),
            )
            [[done]] = self.server.engine.complete([request])
        if done.finish_reason == TOO_LONG:
            limit = self.server.engine.max_model_len
            message = f"This model's maximum context length is {limit} tokens; your request has more."
            self._answer(400, {"error": {"message": message}})
            return
        usage = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}
        choice = {"index": 0, "text": done.text, "finish_reason": done.finish_reason, "logprobs": None}
        whole = {"id": "c", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice]}
        self._answer(200, {**whole, "usage": {**usage, "total_tokens": sum(usage.values())}})

    def _answer(self, status: int, value: dict):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
