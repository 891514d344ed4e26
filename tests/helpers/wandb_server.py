"""As much of a W&B server as `wandb sync` asks for: the history of one run, kept by offsets as the real one does."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WHO = {"id": "e", "name": "me"}


@dataclass
class WandbServer:
    url: str = ""
    known: bool = False
    """Whether the run has been created."""
    history: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, query: str) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else ""
        lines = [json.dumps(line) for line in self.history]
        run = {
            **{"id": "UnVu", "name": "run", "displayName": "run", "description": None, "config": "{}", "tags": []},
            **{"project": {"id": "p", "name": "p", "entity": _WHO}, "sweepName": None, "stopped": False},
            **{"historyLineCount": len(lines), "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]"},
            **{"historyTail": json.dumps(lines[-1:]), "summaryMetrics": "{}", "wandbConfig": '{"t": 1}'},
        }
        if name == "RunResumeStatus":
            return {"model": {"id": "p", "name": "p", "bucket": run if self.known else None}}
        if name == "UpsertBucket":
            inserted, self.known = not self.known, True
            return {"upsertBucket": {"bucket": run, "inserted": inserted}}
        if name == "CreateRunFiles":
            return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": []}}
        return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def stream(self, files: dict[str, Any]) -> None:
        """Lines from an offset on; what was there behind it is replaced."""
        if part := files.get("wandb-history.jsonl"):
            self.history[part["offset"] :] = [json.loads(line) for line in part["content"]]


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    found = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = json.loads(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            if self.path.endswith("/graphql"):
                self._send({"data": found.answer(asked["query"])})
            else:
                found.stream(asked.get("files") or {})
                self._send({"exitcode": None, "limits": {}})

        def do_GET(self) -> None:
            self._send({})

        def _send(self, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
