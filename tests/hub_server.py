"""A Hugging Face Hub of a few repositories in memory, for tests."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """A server on localhost.

    Attributes:
      repositories: Name -> revision -> file -> content.
      access: Name -> "private" or "gated", for repositories that need a token.
      bodies: The files that were sent, in order.
      requests: All requests, in order.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.access = {}, {}
        self.bodies, self.requests = [], []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name, folder, revision="main"):
        """Add all files of a folder as a revision of a repository."""
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        self.repositories.setdefault(name, {})[revision] = files


@contextlib.contextmanager
def serve():
    """Run a Hub until the end of the context."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def commit_of(files) -> str:
    """Return the commit of files: a hash of their names and contents."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *arguments):
        pass

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        listing = re.fullmatch(r"/api/models/(.+?)/revision/([^/]+)()", path)
        match = listing or re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        if match is None:
            return self._refuse(404, "RepoNotFound")
        name, revision, file = map(unquote, match.groups())
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            return self._refuse(401, None, message)
        access = self.server.access.get(name)
        if name not in self.server.repositories or (access == "private" and token is None):
            return self._refuse(401, "RepoNotFound")
        if access == "gated" and token is None:
            return self._refuse(401, "GatedRepo")
        revisions = self.server.repositories[name]
        files = revisions.get(revision) or next(
            (files for files in revisions.values() if commit_of(files) == revision), None
        )
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        headers = {"X-Repo-Commit": commit_of(files)}
        if listing:
            siblings = [{"rfilename": name} for name in files]
            about = {"id": name, "sha": commit_of(files), "siblings": siblings}
            return self._send(json.dumps(about).encode(), headers)
        if file not in files:
            return self._refuse(404, "EntryNotFound", headers=headers)
        if self.command == "GET":
            self.server.bodies.append(file)
        etag = hashlib.sha1(files[file]).hexdigest()
        self._send(files[file], headers | {"ETag": f'"{etag}"'})

    def _refuse(self, status, code, message=None, headers=None):
        named = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(b"", {k: v for k, v in named.items() if v} | (headers or {}), status)

    def _send(self, body, headers, status=200):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
