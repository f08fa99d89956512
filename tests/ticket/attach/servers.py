"""Servers on loopback that take and refuse requests as the documentation of Jira, GitHub and GitLab says.

Each keeps what it was given, so that tests look at what arrived; a fault answers in its place, or breaks off.
"""

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.waiting import HANG_S

TOKEN = "-".join(("s3cr3t", "t0ken", "0f", "the", "0perator"))  # noqa: FLY002 - no scanner takes it for a real one
USER = "ops@example.com"


@dataclass(frozen=True)
class Request:
    """What arrived."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def line(self):
        return f"{self.method} {self.path}"

    def json(self):
        return json.loads(self.body)

    def form(self):
        """Return the parts of a multipart body: name -> (file name, content), read by the standard library."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        parts = {}
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            parts[name] = (part.get_filename(), part.get_payload(decode=True))
        return parts


@dataclass
class Fault:
    """What happens instead of an answer to requests whose line matches.

    `action` is a status, ``cut`` (nothing is done, no answer), ``cut early`` (the same, while the body still comes),
    ``cut after`` (it is done, no answer) or ``half`` (it is done, half an answer).
    """

    line: str
    action: object
    times: int = 1
    headers: dict = field(default_factory=dict)
    body: object = None


class Server:
    """One server; `answer` is what its API does."""

    def __init__(self):
        self.requests = []
        self.faults = []
        self.url = ""

    def lines(self):
        return [r.line for r in self.requests]

    def fail(self, line, action, **options):
        self.faults.append(Fault(line, action, **options))

    def take_fault(self, request):
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.line, request.line):
                fault.times -= 1
                return fault
        return None

    def answer(self, request):
        return 404, {}, {"message": f"nothing at {request.path}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = HANG_S
    disable_nagle_algorithm = True

    def _handle(self):
        length = int(self.headers.get("Content-Length", 0))
        parts = urlsplit(self.path)
        headers = {k.lower(): v for k, v in self.headers.items()}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        server = self.server.fake
        head = Request(self.command, unquote(parts.path), query, headers, b"")
        fault = server.take_fault(head)
        action = fault.action if fault else None
        if action == "cut early":
            self.rfile.read(min(length, 1000))
            self.close_connection = True
            return
        request = replace(head, body=self.rfile.read(length))
        server.requests.append(request)
        if action == "cut":
            self.close_connection = True
            return
        if isinstance(action, int):
            status, fields, body = action, fault.headers, fault.body
        else:
            status, fields, body = server.answer(request)
        if action == "cut after":
            self.close_connection = True
            return
        self._send(status, fields, body, is_half=action == "half")

    def _send(self, status, fields, body, *, is_half):
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **fields}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_half else data)
        if is_half:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815 - names of http.server

    def log_message(self, *_):
        """Keep stderr for what is tested."""


@contextmanager
def serving(fake, *, tls=None):
    """Run a server until the block is left."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.fake = fake
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        fake.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join(timeout=HANG_S)


class Jira(Server):
    """REST API 2 of Data Center, or 3 of Cloud: attachments and comments of OPS-12."""

    def __init__(self, version="2"):
        super().__init__()
        self.version = version
        self.attachments = []
        self.comments = []
        self.page = 50
        self.authorization = f"Bearer {TOKEN}"

    def answer(self, request):
        if request.headers.get("authorization") != self.authorization:
            return 401, {"WWW-Authenticate": 'OAuth realm=""'}, {"message": "Client must be authenticated."}
        match = re.fullmatch(rf"/rest/api/{self.version}/(issue|attachment)/([\w-]+)(?:/(\w+))?", request.path)
        if not match or (match[1] == "issue" and match[2] != "OPS-12"):
            text = "Issue does not exist or you do not have permission to see it."
            return 404, {}, {"errorMessages": [text], "errors": {}}
        if match[1] == "attachment":
            return self.delete(request, match[2])
        handler = {
            ("GET", None): self.issue,
            ("POST", "attachments"): self.attach,
            ("GET", "comment"): self.list,
            ("POST", "comment"): self.comment,
        }[request.method, match[3]]
        return handler(request)

    def issue(self, request):
        assert request.query == {"fields": "attachment"}
        attachments = [{k: v for k, v in a.items() if k != "content"} for a in self.attachments]
        return 200, {}, {"id": "10", "key": "OPS-12", "fields": {"attachment": attachments}}

    def attach(self, request):
        if request.headers.get("x-atlassian-token") != "no-check":
            return 403, {}, b"XSRF check failed"
        ((name, content),) = [request.form()["file"]]
        made = {"id": str(100 + len(self.requests)), "filename": name, "size": len(content), "content": content}
        self.attachments.append(made)
        return 200, {}, [{k: v for k, v in made.items() if k != "content"}]

    def delete(self, request, identifier):
        assert request.method == "DELETE"
        self.attachments = [a for a in self.attachments if a["id"] != identifier]
        return 204, {}, None

    def list(self, request):
        start = int(request.query.get("startAt", 0))
        size = min(int(request.query.get("maxResults", 50)), self.page)
        page = self.comments[start : start + size]
        return 200, {}, {"startAt": start, "maxResults": size, "total": len(self.comments), "comments": page}

    def comment(self, request):
        body = request.json()["body"]
        is_document = isinstance(body, dict) and body["type"] == "doc" and body["version"] == 1 and body["content"]
        if not (is_document if self.version == "3" else isinstance(body, str)):
            return 400, {}, {"errorMessages": [], "errors": {"comment": "Comment body is not valid!"}}
        if isinstance(body, str) and len(body) > 32767:
            text = "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
            return 400, {}, {"errorMessages": [], "errors": {"comment": text}}
        made = {"id": str(900 + len(self.comments)), "body": body}
        self.comments.append(made)
        return 201, {}, made


class GitHub(Server):
    """REST API of an Enterprise Server: comments of acme/proxy#7, assets of the release `incidents`."""

    def __init__(self):
        super().__init__()
        self.comments = []
        self.assets = []
        self.page = 100

    def answer(self, request):
        if request.headers.get("authorization") not in {f"token {TOKEN}", f"Bearer {TOKEN}"}:
            return 401, {}, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        routes = {
            r"GET /api/v3/repos/acme/proxy/issues/7/comments": self.list,
            r"POST /api/v3/repos/acme/proxy/issues/7/comments": self.comment,
            r"GET /api/v3/repos/acme/proxy/releases/tags/incidents": self.release,
            r"GET /api/v3/repos/acme/proxy/releases/55/assets": self.list_assets,
            r"POST /api/uploads/repos/acme/proxy/releases/55/assets": self.upload,
            r"DELETE /api/v3/repos/acme/proxy/releases/assets/\d+": self.delete,
        }
        for line, handler in routes.items():
            if re.fullmatch(line, request.line):
                return handler(request)
        return 404, {}, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}

    def list(self, request):
        page, size = int(request.query.get("page", 1)), min(int(request.query.get("per_page", 30)), self.page)
        chunk = self.comments[(page - 1) * size : page * size]
        more = page * size < len(self.comments)
        link = f'<{self.url}{request.path}?per_page={size}&page={page + 1}>; rel="next"'
        return 200, {"Link": link} if more else {}, chunk

    def comment(self, request):
        body = request.json()["body"]
        if len(body) > 65536:
            error = {"message": "body is too long (maximum is 65536 characters)", "code": "unprocessable"}
            return 422, {}, {"message": "Validation Failed", "errors": [error]}
        made = {"id": 3000 + len(self.comments), "body": body, "url": f"{self.url}/api/v3/x"}
        self.comments.append(made)
        return 201, {}, made

    def release(self, _):
        base = f"{self.url}/api/v3/repos/acme/proxy/releases/55"
        upload = f"{self.url}/api/uploads/repos/acme/proxy/releases/55/assets{{?name,label}}"
        return 200, {}, {"id": 55, "url": base, "upload_url": upload, "tag_name": "incidents"}

    def list_assets(self, _):
        return 200, {}, [{k: v for k, v in a.items() if k != "content"} for a in self.assets]

    def upload(self, request):
        name = request.query["name"]
        if any(a["name"] == name for a in self.assets):
            error = {"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}
            return 422, {}, {"message": "Validation Failed", "errors": [error]}
        return 201, {}, self.keep(name, request.body, "uploaded")

    def keep(self, name, content, state):
        number = 70 + len(self.requests)
        url = f"{self.url}/api/v3/repos/acme/proxy/releases/assets/{number}"
        made = {"id": number, "name": name, "size": len(content), "state": state, "url": url}
        self.assets.append({**made, "content": content})
        return made

    def delete(self, request):
        number = int(request.path.rpartition("/")[2])
        self.assets = [a for a in self.assets if a["id"] != number]
        return 204, {}, None


class GitLab(Server):
    """REST API 4: uploads of acme/ops/proxy, notes of its issue and its merge request 7."""

    KEY = "66dbcd21ec5d24ed6ea225176098d52b"

    def __init__(self):
        super().__init__()
        self.notes = []
        self.uploads = {}
        self.page = 100

    def answer(self, request):
        if request.headers.get("private-token") != TOKEN:
            return 401, {}, {"message": "401 Unauthorized"}
        project = "/api/v4/projects/acme/ops/proxy"
        routes = {
            rf"GET {project}/(issues|merge_requests)/7/notes": self.list,
            rf"POST {project}/(issues|merge_requests)/7/notes": self.note,
            rf"POST {project}/uploads": self.upload,
            rf"DELETE {project}/uploads/[0-9a-f]+/[\w.-]+": self.delete,
        }
        for line, handler in routes.items():
            if re.fullmatch(line, request.line):
                return handler(request)
        return 404, {}, {"message": "404 Project Not Found"}

    def list(self, request):
        page, size = int(request.query.get("page", 1)), min(int(request.query.get("per_page", 20)), self.page)
        chunk = self.notes[(page - 1) * size : page * size]
        more = page * size < len(self.notes)
        path = request.path.replace("acme/ops/proxy", "acme%2Fops%2Fproxy")
        link = f'<{self.url}{path}?per_page={size}&page={page + 1}>; rel="next"'
        return 200, {"Link": link, "X-Next-Page": str(page + 1)} if more else {}, chunk

    def note(self, request):
        made = {"id": 500 + len(self.notes), "body": request.json()["body"]}
        self.notes.append(made)
        return 201, {}, made

    def upload(self, request):
        name, content = request.form()["file"]
        self.uploads[f"{self.KEY}/{name}"] = content
        url = f"/uploads/{self.KEY}/{name}"
        full = f"/-/project/1234{url}"
        return 201, {}, {"id": 5, "alt": name, "url": url, "full_path": full, "markdown": f"[{name}]({url})"}

    def delete(self, request):
        key = "/".join(request.path.split("/")[-2:])
        return (204, {}, None) if self.uploads.pop(key, None) is not None else (404, {}, {"message": "404 Not found"})


class Webhook(Server):
    """Takes everything."""

    def answer(self, request):
        assert request.method == "POST"
        return 202, {}, {"accepted": True}
