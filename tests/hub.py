"""A data-set hub on this machine: its lists of files, downloads and uploads, with the faults of real ones."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 2000
"""Bytes from which on a file counts as large, and is listed with its SHA-256."""


@dataclass
class Hub:
    """What the server gives, and what it was asked.

    Attributes:
        root: folder of repositories, owner/name/files.
        url: of the server, for HF_ENDPOINT.
        requests: (path, Range header) of each download.
        headers: the headers of each request, by path.
        cut_after: name of a file -> bytes after which its next download breaks off, once each.
        spoilt: names of files of which the last byte is another than the list says.
        ranges: whether the server knows Range.
        page_size: files on a page of the list.
        commits: what each upload changed: path -> "file", "lfsFile" or "deletedFile".
        stored: large files that were sent, by SHA-256.
        sent: SHA-256 of each large file that was sent, in order.
        cut_uploads: large files, by their number in `sent`, that the server breaks off at, once each.
        read_only: whether uploads are refused.
    """

    root: Path
    url: str = ""
    requests: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)
    cut_after: dict = field(default_factory=dict)
    spoilt: set = field(default_factory=set)
    ranges: bool = True
    page_size: int = 2
    commits: list = field(default_factory=list)
    stored: dict = field(default_factory=dict)
    sent: list = field(default_factory=list)
    cut_uploads: set = field(default_factory=set)
    read_only: bool = False

    def sha(self):
        """The newest commit."""
        return hashlib.sha1(b"%d" % len(self.commits)).hexdigest()


@contextmanager
def serving(root):
    """Serve the repositories below `root`."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def entry(file, path):
    """A file as the hub lists it: large ones with their SHA-256, others with git's SHA-1."""
    data = file.read_bytes()
    sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    found = {"type": "file", "oid": sha1, "size": len(data), "path": path}
    if len(data) >= LARGE:
        found["oid"] = "0" * 40  # of the pointer, which nobody fetches
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


class _Handler(BaseHTTPRequestHandler):
    @property
    def hub(self):
        return self.server.hub

    def do_GET(self):
        url = urlsplit(self.path)
        self.hub.headers[url.path] = dict(self.headers)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "datasets"] and parts[4:5] == ["tree"]:
            self._list("/".join(parts[2:4]), "/".join(parts[6:]), parse_qs(url.query))
        elif parts[:1] == ["datasets"] and parts[3:4] == ["resolve"]:
            # As the hub does, downloads are sent on to another place.
            self._answer(302, Location=f"/cdn/{'/'.join(parts[1:3] + parts[5:])}")
        elif parts[:1] == ["cdn"]:
            self._give(self.hub.root.joinpath(*parts[1:]))
        elif parts[:2] == ["api", "datasets"] and parts[4:5] in ([], ["revision"]):
            self._about("/".join(parts[2:4]))
        else:
            self._answer(404)

    def do_POST(self):
        """The calls of an upload: a repository, which files are large, where they go, and the commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self.hub.read_only:
            self._answer(403)
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[4:5] == ["preupload"]:
            modes = [self._upload_mode(parts, one) for one in json.loads(body)["files"]]
            self._json({"files": modes})
        elif parts[-2:] == ["objects", "batch"]:
            self._json({"transfer": "basic", "objects": [*map(self._place, json.loads(body)["objects"])]})
        elif parts[4:5] == ["commit"]:
            self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404)

    def do_PUT(self):
        oid = self.path.rpartition("/")[2]
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.sent.append(oid)
        if len(self.hub.sent) in self.hub.cut_uploads:
            self._answer(400)
        elif hashlib.sha256(data).hexdigest() != oid:
            self._answer(422)
        else:
            self.hub.stored[oid] = data
            self._answer(200)

    def _about(self, repository):
        if not (self.hub.root / repository).is_dir():
            self._answer(404)
            return
        self._json({"id": repository, "sha": self.hub.sha(), "siblings": [], "private": False, "tags": []})

    def _create(self, asked):
        repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
        folder = self.hub.root / repository
        url = f"{self.hub.url}/datasets/{repository}"
        status = 409 if folder.is_dir() else 200
        folder.mkdir(parents=True, exist_ok=True)  # before the answer, after which it is asked for
        self._json({"url": url}, status)

    def _upload_mode(self, parts, one):
        mode = {"path": one["path"], "shouldIgnore": False}
        mode["uploadMode"] = "lfs" if one["size"] >= LARGE else "regular"
        there = self.hub.root.joinpath(*parts[2:4], one["path"])
        if there.is_file() and there.stat().st_size < LARGE:
            mode["oid"] = entry(there, one["path"])["oid"]
        return mode

    def _place(self, one):
        if one["oid"] in self.hub.stored:
            return one  # no actions: there is nothing to send
        return one | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}

    def _commit(self, repository, lines):
        base, changed = self.hub.root / repository, {}
        for line in lines[1:]:
            value = line["value"]
            file = base / value["path"]
            changed[value["path"]] = line["key"]
            if line["key"] == "deletedFile":
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            small = line["key"] == "file"
            data = base64.b64decode(value["content"]) if small else self.hub.stored[value["oid"]]
            file.write_bytes(data)
        self.hub.commits.append(changed)
        sha = self.hub.sha()
        self._json({"commitUrl": f"{self.hub.url}/datasets/{repository}/commit/{sha}", "commitOid": sha})

    def _json(self, value, status=200):
        self._answer(status, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _list(self, repository, folder, query):
        base = self.hub.root / repository
        if not base.is_dir():
            self._answer(404)
            return
        paths = sorted(p for p in (base / folder).rglob("*") if p.is_file())
        entries = [entry(p, p.relative_to(base).as_posix()) for p in paths]
        start = int(query.get("cursor", ["0"])[0])
        page = entries[start : start + self.hub.page_size]
        more = {}
        if start + self.hub.page_size < len(entries):
            path = urlsplit(self.path).path
            url = f"{self.hub.url}{path}?recursive=true&cursor={start + self.hub.page_size}"
            more = {"Link": f'<{url}>; rel="next"'}
        self._answer(200, json.dumps(page).encode(), **more)

    def _give(self, file):
        wanted = self.headers.get("Range")
        self.hub.requests.append((file.name, wanted))
        if not file.is_file():
            self._answer(404)
            return
        data = file.read_bytes()
        if file.name in self.hub.spoilt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.hub.ranges else 0
        if start >= len(data) and start:
            self._answer(416)
            return
        body = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.hub.cut_after.pop(file.name, len(body))])
        self.close_connection = True

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass
