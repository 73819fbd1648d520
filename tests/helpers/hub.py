"""A stand-in for the Hugging Face Hub on loopback: repositories of models, in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.helpers.web import listening


class Repository:
    """Files by name, for each commit and branch."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        text = f"{len(self.commits)}".encode()
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]


class Hub:
    """What the server holds.

    Attributes:
        repositories: By name.
        claimed: Sizes that listings claim in place of the real ones.
        status: Answer everything with this status code.
        tokens: That were sent with changes.
        asked: Methods and paths of the requests.
        large: Files whose names end so are sent by LFS.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.claimed: dict[str, int] = {}
        self.status: int | None = None
        self.tokens: set[str | None] = set()
        self.asked: list[str] = []
        self.large = ".nothing"
        self.stored: dict[str, bytes] = {}
        self.url = ""


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    site = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def _answer(self, value=b"", status=200, **headers):
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _missing(self, code):
            self._answer({"error": code}, 404, X_Error_Code=code)

        def _begin(self):
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            site.asked.append(f"{self.command} {path}")
            if site.status is not None:
                self._answer({"error": "no"}, site.status)
                return None
            return [unquote(part) for part in path.strip("/").split("/")]

        def do_POST(self):
            parts = self._begin()
            if parts is None:
                return
            site.tokens.add(self.headers.get("Authorization"))
            if parts[:2] == ["api", "validate-yaml"]:
                self._answer({"errors": [], "warnings": []})
                return
            if parts == ["api", "repos", "create"]:
                asked = json.loads(self.body)
                name = f"{asked['organization']}/{asked['name']}"
                if name in site.repositories:
                    self._answer({"error": "exists", "url": f"{site.url}/{name}"}, 409)
                    return
                is_private = asked.get("visibility") == "private" or asked.get("private") is True
                site.repositories[name] = Repository(is_private)
                self._answer({"url": f"{site.url}/{name}"})
                return
            if parts[-1] == "batch":
                objects = json.loads(self.body)["objects"]
                actions = {one["oid"]: {"upload": {"href": f"{site.url}/lfs/{one['oid']}"}} for one in objects}
                self._answer(
                    {"transfer": "basic", "objects": [{**one, "actions": actions[one["oid"]]} for one in objects]},
                    Content_Type="application/vnd.git-lfs+json",
                )
                return
            name, action, revision = "/".join(parts[2:4]), parts[4], parts[5]
            repository = site.repositories[name]
            if action == "branch":
                if revision in repository.branches:
                    self._answer({"error": "exists"}, 409)
                    return
                repository.branches[revision] = repository.branches["main"]
                self._answer({})
            elif action == "preupload":
                files = [
                    {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(site.large) else "regular",
                     "shouldIgnore": False, "oid": None}
                    for one in json.loads(self.body)["files"]
                ]  # fmt: skip
                self._answer({"files": files})
            elif action == "commit":
                files = dict(repository.commits[repository.branches[revision]])
                for line in self.body.splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif entry["key"] == "lfsFile":
                        files[value["path"]] = site.stored[value["oid"]]
                    elif entry["key"] == "deletedFile":
                        del files[value["path"]]
                sha = repository.commit(revision, files)
                self._answer({"commitUrl": f"{site.url}/{name}/commit/{sha}", "commitOid": sha})
            else:
                self._missing("EntryNotFound")

        def do_PUT(self):
            parts = self._begin()
            if parts is not None:
                site.stored[parts[-1]] = self.body
                self._answer()

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            parts = self._begin()
            if parts is None:
                return
            api = parts[0] == "api"
            name = "/".join(parts[2:4] if api else parts[:2])
            rest = parts[4:] if api else parts[2:]
            repository = site.repositories.get(name)
            if repository is None:
                self._missing("RepoNotFound")
                return
            sha = repository.find(rest[1] if len(rest) > 1 else "main")
            if sha is None:
                self._missing("RevisionNotFound")
                return
            files = repository.commits[sha]
            if rest[:1] == ["tree"]:
                self._answer(
                    [
                        {"type": "file", "path": path, "oid": "0" * 40, "size": site.claimed.get(path, len(content))}
                        for path, content in files.items()
                    ]
                )
            elif api:
                siblings = [{"rfilename": path} for path in files]
                self._answer({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})
            elif "/".join(rest[2:]) not in files:
                self._missing("EntryNotFound")
            else:
                content = files["/".join(rest[2:])]
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self._answer(content, ETag=etag, X_Repo_Commit=sha, Content_Length=str(len(content)))

    with listening(Handler) as site.url:
        yield site
