"""What the stack stands on in the acceptance test: a database, a web site, an issuer of tokens, and the emulated cloud.

All of them listen on loopback, on free ports, and end with the test.
"""

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import boto3
import jwt
import pg8000.native
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

REPOSITORY = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"


def eventually(what, look, seconds=60):
    """Waits until `look` answers with something true, and gives it back; `what` is told if it never does."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def postgres_server():
    """The command of local/postgres's example: what `cargo test --workspace` built, else what cargo builds now."""
    given = os.environ.get("CALLBOARD_POSTGRES_SERVER")
    built = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "debug/examples/postgres-server"
    if given or built.is_file():
        return [given or str(built)]
    return ["cargo", "run", "--quiet", "--locked", "--package", "local-postgres", "--example", "postgres-server"]


class Database:
    """A PostgreSQL server of the repository's own kind, prepared as docs/deploy.md says, with TLS by a root of its own."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            [*postgres_server(), str(directory)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        url = urllib.parse.urlsplit(self.process.stdout.readline().strip())
        self.port, self.superuser = url.port, url.username
        self.cluster = Path(self.process.stdout.readline().strip())
        self.ca_bundle = self._encrypt(directory)
        self._prepare()

    def _encrypt(self, directory):
        """Gives the server a certificate for localhost that only `ca_bundle` speaks for."""

        def openssl(*arguments):
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

        ca, key, request = directory / "ca.pem", directory / "ca.key", directory / "server.csr"
        openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-days", 2, "-subj", "/CN=callboard test root",
                "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", key, "-out", ca)
        openssl("req", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", "-keyout", directory / "server.key", "-out", request)
        names = directory / "names.cnf"
        names.write_text("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", key, "-CAcreateserial", "-days", 2,
                "-extfile", names, "-out", directory / "server.crt")
        owner = self.cluster.stat()
        for name in ("server.key", "server.crt"):
            target = self.cluster / name
            shutil.copy(directory / name, target)
            os.chown(target, owner.st_uid, owner.st_gid)
            target.chmod(0o600)
        with self.connect("postgres", self.superuser) as superuser:
            superuser.run("ALTER SYSTEM SET ssl = on")
            superuser.run("SELECT pg_reload_conf()")
        return ca

    def _prepare(self):
        """As RDS hands a database over: a master user that is no superuser, and the role that stands for IAM sign-in."""
        with self.connect("postgres", self.superuser) as superuser:
            superuser.run("CREATE ROLE rds_iam NOLOGIN")
            superuser.run("CREATE ROLE master LOGIN CREATEROLE CREATEDB")
            superuser.run("GRANT rds_iam TO master WITH ADMIN OPTION")
        script = (REPOSITORY / "deploy/prepare-database.sql").read_text()
        with self.connect("postgres", "master") as master:
            for statement in re.sub(r"--.*", "", script).split(";"):
                if statement.strip():
                    master.run(statement)

    def connect(self, database, user):
        return _Closing(pg8000.native.Connection(user, host="127.0.0.1", port=self.port, database=database))

    def rows(self, statement, **values):
        """What the owner of the schema sees."""
        with self.connect("callboard", "callboard_owner") as owner:
            return owner.run(statement, **values)

    def set_sign_in(self, allowed):
        """Lets the functions' role in or not; ends its connections, so that it shows at once."""
        with self.connect("postgres", self.superuser) as superuser:
            superuser.run(f"ALTER ROLE callboard_app {'LOGIN' if allowed else 'NOLOGIN'}")
            superuser.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'callboard_app'")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)


class _Closing:
    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        return self.connection

    def __exit__(self, *_):
        self.connection.close()


class Site:
    """A web site whose pages a test writes; an answer may be held back once."""

    def __init__(self):
        self.pages, self.held, self.asked = {}, {}, []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append(self.path)
                gate = site.held.pop(self.path, None)
                if gate:
                    gate.wait(60)
                body = site.pages.get(self.path, "").encode()
                self.send_response(200 if body else 404)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.authority = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def posting(self, path, title):
        """A page with one position, and its address."""
        posting = {
            "@context": "https://schema.org",
            "@type": "JobPosting",
            "title": title,
            "hiringOrganization": {"@type": "Organization", "name": "Norrsken University"},
            "jobLocation": {"@type": "Place", "address": {"addressCountry": "SE", "addressLocality": "Kiruna"}},
            "datePosted": time.strftime("%Y-%m-%d"),
            "validThrough": time.strftime("%Y-%m-%d", time.gmtime(time.time() + 60 * 86_400)),
            "description": f"<p>{title}: field work above the tree line, and what follows from it.</p>",
        }
        self.pages[path] = (
            f"<!DOCTYPE html><html lang=en><head><title>{title}</title>"
            f'<script type="application/ld+json">{json.dumps(posting)}</script></head>'
            f"<body><main><h1>{title}</h1></main></body></html>"
        )
        return f"http://{self.authority}{path}"

    def hold_once(self, path):
        """The next answer for the path waits until the event that is returned is set."""
        self.held[path] = threading.Event()
        return self.held[path]


class Issuer:
    """An OpenID Connect issuer: its configuration, its key, and tokens."""

    def __init__(self):
        self.key = Ed25519PrivateKey.generate()
        jwk = {**OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": "1", "alg": "EdDSA", "use": "sig"}
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"},
                    "/jwks": {"keys": [jwk]},
                }
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(200 if self.path in documents else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, role):
        now = int(time.time())
        claims = {"iss": self.url, "aud": "callboard", "sub": "acceptance", "iat": now, "exp": now + 3_600, "roles": [role]}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "1"})


class Cloud:
    """The emulator, in a process group of its own: it and the functions it started end together."""

    def __init__(self, directory, extra_environment):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "SAM_CLI_TELEMETRY": "0",
        }
        own = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            # Part of the addresses that it hands out; functions reach CloudFormation's answer address by it.
            "MINISTACK_HOST": "localhost",
            "MINISTACK_REGION": REGION,
            "STATE_DIR": str(directory / "state"),
            "TMPDIR": str(directory / "tmp"),
        }
        (directory / "tmp").mkdir(parents=True)
        self.log = directory / "emulator.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env={**self.environment, **own, **extra_environment},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.session = boto3.Session("test", "test", region_name=REGION)
        eventually("the emulator answers", self._answers)

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the emulator ended: {self.log.read_text()[-2_000:]}")
        try:
            with socket.create_connection(("127.0.0.1", int(self.endpoint.rsplit(":", 1)[1])), 1):
                return True
        except OSError:
            return False

    def client(self, service):
        return self.session.client(service, endpoint_url=self.endpoint)

    def processes(self, function):
        """Process ids of a function's running environments, read off their own variables."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                executable = os.readlink(entry / "exe")
            except OSError:
                continue
            named = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode()
            ours = f"AWS_ENDPOINT_URL={self.endpoint}".encode()
            if named in variables and ours in variables and Path(executable).name.startswith("bootstrap"):
                found.append(int(entry.name))
        return found

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
