"""The Lambda Runtime API for one start of one function: hands out one event, takes the answer, tells the times.

One thread and plain sockets, so that what is measured is the function. Times are seconds after the moment before the process is
made.
"""

import json
import os
import select
import signal
import socket
import time
from pathlib import Path

LIMIT_S = 20


class Start:
    """One cold start. `init_s`: to the first poll; `answer_s`: to the first answer; `peak_rss_bytes` after it."""

    def __init__(self, argv, environment, event, directory):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        self.connections = [listener]
        port = listener.getsockname()[1]
        variables = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "measured",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_LOG_GROUP_NAME": "measured",
            "AWS_LAMBDA_LOG_STREAM_NAME": "measured",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "LAMBDA_TASK_ROOT": str(directory),
            "_HANDLER": "app.handler",
            "PYTHONPATH": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        began = time.perf_counter()
        process = os.posix_spawn(argv[0], argv, variables, file_actions=silent)
        try:
            connection, _, _ = self._request("/invocation/next")
            self.init_s = time.perf_counter() - began
            deadline_ms = int((time.time() + 10) * 1_000)
            body = json.dumps(event).encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"lambda-runtime-aws-request-id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"
                b"lambda-runtime-invoked-function-arn: arn:aws:lambda:eu-central-1:123456789012:function:measured\r\n"
                + f"lambda-runtime-deadline-ms: {deadline_ms}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            _, self.answered_at, answer = self._request("/response")
            self.answer_s = time.perf_counter() - began
            self.answer = json.loads(answer)
            status = Path(f"/proc/{process}/status").read_text()
            self.peak_rss_bytes = next(int(line.split()[1]) * 1_024 for line in status.splitlines() if line.startswith("VmHWM"))
            self.threads = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads"))
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            for open_socket in self.connections:
                open_socket.close()

    def _request(self, ending):
        """Waits for a request whose path ends so: its connection, its path and its body."""
        listener = self.connections[0]
        end = time.perf_counter() + LIMIT_S
        while (left := end - time.perf_counter()) > 0:
            readable, _, _ = select.select(self.connections, [], [], left)
            for ready in readable:
                if ready is listener:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.connections.append(connection)
                    continue
                path, body = _read(ready)
                if path is None:
                    self.connections.remove(ready)
                    ready.close()
                elif path.endswith(ending):
                    return ready, path, body
                else:
                    raise RuntimeError(f"the function asked for {path}: {body[:500]}")
        raise RuntimeError(f"no request for {ending} within {LIMIT_S} s")


def _read(connection):
    """One request: its path and body; None and nothing where the other side closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return None, b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if fields.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65_536)
        return lines[0].split(" ")[1], _unchunked(body)
    while len(body) < int(fields.get("content-length", 0)):
        body += connection.recv(65_536)
    return lines[0].split(" ")[1], body


def _unchunked(body):
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        whole += rest[:length]
        body = rest[length + 2 :]
    return whole
