"""A hub on this machine that speaks the calls of huggingface_hub's that `masklater push` makes."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

COMMIT = "c" * 40


class StandIn:
    """The repositories it holds, and what has been sent to it."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}  # name: private, files
        self.uploaded: dict[str, bytes] = {}  # large files by SHA-256
        self.calls: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuses: int | None = None  # the status that all calls which write get
        self.loses: str | None = None  # the file that a commit leaves out
        self.url = ""


def _handler(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, tree: object, status: int = 200, **headers: str) -> None:
            content = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def begin(self) -> str:
            path = self.path.partition("?")[0]
            hub.calls.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization"))
            return path

        def do_GET(self) -> None:
            path = self.begin()
            name = "/".join(path.split("/")[3:5])
            repository = hub.repositories.get(name)
            if repository is None:
                self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                files = repository["files"].items()
                self.answer([{"type": "file", "path": path, "size": size, "oid": "0" * 40} for path, size in files])
            else:
                self.answer({"id": name, "private": repository["private"], "sha": COMMIT, "siblings": [], "tags": []})

        def do_PUT(self) -> None:
            path = self.begin()
            hub.uploaded[path.rpartition("/")[2]] = self.body()
            self.answer({})

        def do_POST(self) -> None:
            path, content = self.begin(), self.body()
            if hub.refuses:
                self.answer({"error": "you may not"}, hub.refuses)
            elif path == "/api/validate-yaml":
                self.validate(json.loads(content)["content"])
            elif path == "/api/repos/create":
                asked = json.loads(content)
                owner = asked.get("organization") or "me"
                private = bool(asked.get("private")) or asked.get("visibility") == "private"
                hub.repositories[f"{owner}/{asked['name']}"] = {"private": private, "files": {}}
                self.answer({"url": f"{hub.url}/{owner}/{asked['name']}", "name": f"{owner}/{asked['name']}"})
            elif "/preupload/" in path:
                files = json.loads(content)["files"]
                large = {file["path"] for file in files if file["path"].endswith(".safetensors")}
                modes = {file["path"]: "lfs" if file["path"] in large else "regular" for file in files}
                answer = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
                self.answer({"files": answer})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(content)["objects"]
                actions = [
                    {**one, "actions": {"upload": {"href": f"{hub.url}/upload/{one['oid']}"}}} for one in objects
                ]
                self.answer({"transfer": "basic", "objects": actions})
            elif "/commit/" in path:
                name = "/".join(path.split("/")[3:5])
                self.commit(name, [json.loads(line) for line in content.splitlines()])
            else:
                self.answer({"error": f"no such call: {path}"}, 404)

        def validate(self, card: str) -> None:
            """As the hub: YAML, with a licence it knows."""
            matter = yaml.safe_load(card.split("---\n")[1])
            known = {None, "apache-2.0", "mit", "cc-by-sa-4.0", "other"}
            wrong = [] if matter.get("license") in known else [{"message": '"license" must be one of [...]'}]
            self.answer({"errors": wrong, "warnings": []}, 400 if wrong else 200)

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    hub.repositories[name]["files"][value["path"]] = len(base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    assert len(hub.uploaded[value["oid"]]) == value["size"]
                    hub.repositories[name]["files"][value["path"]] = value["size"]
            hub.repositories[name]["files"].pop(hub.loses, None)
            self.answer({"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    return Handler


@contextmanager
def stand_in_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub that huggingface_hub takes for the real one."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # a protocol of its own, in Rust
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def stand_in_for_data_sets(monkeypatch: pytest.MonkeyPatch, load: Callable[[], object]) -> list[object]:
    """Let `datasets` and huggingface_hub know one data set, at COMMIT; return the list of what they are asked."""
    asked: list[object] = []

    def load_dataset(name: str, config: str | None, **settings: object) -> object:
        asked.append((name, config, settings))
        return load()

    class Hub:
        def dataset_info(self, name: str, revision: str | None) -> Any:
            asked.append((name, revision))
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return asked
