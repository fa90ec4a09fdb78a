"""As much of a W&B server as runs and `wandb sync` ask for; it keeps everything that it is sent."""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """Answers on a free port of this machine.

    Attributes:
        queries: (operation, variables) of every GraphQL request.
        sent: body of every request, with its path.
        hang: set to make requests wait that the predicate is true of.
    """

    daemon_threads = True

    def __init__(self, *, hangs_at: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.runs: dict[str, int] = {}
        self.hangs_at = hangs_at
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""

    def asked(self, operation: str) -> list[dict[str, Any]]:
        return [variables for name, variables in self.queries if name == operation]

    def history(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Returns (offset, rows) of every piece of history."""
        bodies = [json.loads(body) for path, body in self.sent if path.endswith("/file_stream")]
        pieces = [
            body["files"]["wandb-history.jsonl"] for body in bodies if "wandb-history.jsonl" in body.get("files", {})
        ]
        return [(piece["offset"], [json.loads(row) for row in piece["content"]]) for piece in pieces]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *arguments: object) -> None: ...

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/graphql"):
            query = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", query["query"]).group(1)
            given = query.get("variables") or {}
            self.server.queries.append((operation, given))
            self._wait_at(operation)
            self._send({"data": self._answer(operation, given)})
        else:
            if self.path.endswith("/file_stream"):
                self._count_rows(json.loads(body))
            self._wait_at("file_stream")
            self._send({})

    def do_PUT(self) -> None:
        self._body()
        self._wait_at("upload")
        self._send({})

    def do_GET(self) -> None:
        self._send({})

    def _wait_at(self, where: str) -> None:
        if self.server.hangs_at in {where, "everything"}:
            self.server.released.wait(120)

    def _count_rows(self, body: dict[str, Any]) -> None:
        piece = body["files"].get("wandb-history.jsonl") if body.get("files") else None
        if piece is not None:
            self.server.runs[self.path.split("/")[4]] = piece["offset"] + len(piece["content"])

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.sent.append((self.path, body))
        return body

    def _send(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "e", "name": "somebody"}
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "UpsertBucket": lambda: {"upsertBucket": self._upserted(given["name"], entity)},
            "RunResumeStatus": lambda: {
                "model": {"id": "p", "name": "p", "entity": entity, "bucket": self._bucket(given["name"])}
            },
            "Viewer": lambda: {
                "viewer": {"id": "v", "entity": "somebody", "username": "somebody", "teams": {"edges": []}}
            },
            "ArtifactType": lambda: {"project": None},
            "CreateArtifact": lambda: {
                "createArtifact": {
                    "artifact": {
                        "id": given["input"]["artifactCollectionName"],
                        "state": "PENDING",
                        "artifactSequence": {"latestArtifact": None},
                    }
                }
            },
            "CreateArtifactManifest": lambda: {"createArtifactManifest": self._manifest()},
            "UpdateArtifactManifest": lambda: {"updateArtifactManifest": self._manifest()},
            "CreateArtifactFiles": lambda: {
                "createArtifactFiles": {
                    "files": {"edges": [{"node": self._artifact_file(one)} for one in given["input"]["artifactFiles"]]}
                }
            },
            "CommitArtifact": lambda: {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
            "UseArtifact": lambda: {"useArtifact": {"artifact": {"id": "a"}}},
            "CreateRunFiles": lambda: {
                "createRunFiles": {
                    "runID": "r",
                    "uploadHeaders": [],
                    "files": [{"name": name, "uploadUrl": self._place(name)} for name in given["files"]],
                }
            },
        }
        return answers[operation]() if operation in answers else {}

    def _upserted(self, name: str, entity: dict[str, str]) -> dict[str, Any]:
        new = name not in self.server.runs
        self.server.runs.setdefault(name, 0)
        project = {"id": "p", "name": "p", "entity": entity}
        bucket = {"id": "r", "name": name, "displayName": "n", "config": "{}", "project": project}
        return {"bucket": bucket | {"historyLineCount": self.server.runs[name]}, "inserted": new}

    def _manifest(self) -> dict[str, Any]:
        file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": self._place("manifest"), "uploadHeaders": []}
        return {"artifactManifest": {"id": "m", "file": file}}

    def _place(self, name: str) -> str:
        return f"{self.server.url}/upload/{name}"

    def _artifact_file(self, file: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "f",
            "name": file["name"],
            "displayName": file["name"],
            "uploadUrl": self._place(file["name"]),
            "uploadHeaders": [],
            "storagePath": "s",
            "uploadMultipartUrls": None,
            "artifact": {"id": file["artifactID"]},
        }

    def _bucket(self, run_id: str) -> dict[str, Any] | None:
        if run_id not in self.server.runs:
            return None
        rows = self.server.runs[run_id]
        last = json.dumps([json.dumps({"_step": rows, "_runtime": 1})])
        counts = {"historyLineCount": rows, "eventsLineCount": 0, "logLineCount": 0}
        tails = {"historyTail": last, "eventsTail": "[]", "summaryMetrics": "{}", "config": "{}", "wandbConfig": "{}"}
        return {"id": "r", "name": run_id, "displayName": "n", "tags": [], **counts, **tails}


@contextmanager
def wandb_server(*, hangs_at: str | None = None) -> Iterator[WandbServer]:
    """Runs a server for a `with` block."""
    server = WandbServer(hangs_at=hangs_at)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
