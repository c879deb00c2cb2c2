"""A made-up labelled set, an evaluation of it, and an endpoint that answers by a rule."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from redone_train.evaluate.items import Item, TaskScore

ROWS = 14


def write_posts(folder: Path, rows: int = ROWS) -> Path:
    """Posts with a label; the odd ones are offensive, and say so."""
    path = folder / "posts.jsonl"
    lines = [
        {
            "id": f"p{i}",
            "text": f"post number {i} is {'rude' if i % 2 else 'kind'}",
            "offensive": "yes" if i % 2 else "no",
        }
        for i in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def config(models: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The offensive task over the posts."""
    table = {"paths": ["posts.jsonl"], "columns": {"text": "text", "label": "offensive"}, "lang": "en", "id": "id"}
    values = {
        "output": "out",
        "models": dict(models),
        "sets": {"rude": {"task": "offensive", "table": table}},
        "max_new_tokens": 4,
        "resamples": 50,
        "batch_size": 4,
    }
    return {**values, **changes}


def write_config(folder: Path, models: Mapping[str, Any], **changes: Any) -> Path:
    write_posts(folder)
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(config(models, **changes), sort_keys=False), encoding="utf-8")
    return path


@contextmanager
def endpoint() -> Iterator[ThreadingHTTPServer]:
    """Answers Yes where a post says that it is rude; `seen` holds every request."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.seen.append(request)  # type: ignore[attr-defined]
            answer = " Yes\nnext" if "rude" in request["messages"][-1]["content"] else " No\nnext"
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def items(n: int, task: str = "t", **meta: Any) -> list[Item]:
    return [
        Item(f"{task}-{i}", task, "made", ({"role": "user", "content": f"question {i}?"},), "x", dict(meta))
        for i in range(n)
    ]


def mean_score(task: str, values: list[float]) -> TaskScore:
    """A task whose score is the mean of its items."""
    columns = {"parsed": np.ones(len(values)), "item_score": np.array(values)}
    return TaskScore(task, "exact", columns, lambda c: {"score": float(np.mean(c["item_score"]))}, 25.0, "guess", 100.0)
