"""HTTP as a test needs it below a client: whole requests, and what a socket shows of an answer."""

import http.client
import json
import socket


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def request(address, method, path, body=None, headers=None):
    """(status, headers in lower case, body as JSON or bytes) of one request."""
    connection = http.client.HTTPConnection(*split(address), timeout=60)
    try:
        if isinstance(body, dict):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        data = answer.read()
        if data and fields.get("content-type") == "application/json":
            data = json.loads(data)
        return answer.status, fields, data
    finally:
        connection.close()


def chat(words, **fields):
    """The body of a chat completion."""
    return {"model": "auto", "messages": [{"role": "user", "content": words}], **fields}


def post(path, body):
    """The bytes of a request."""
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


class Socket:
    """A connection that sends bytes and reads as it likes."""

    def __init__(self, address, receive_buffer=None):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(60)
        self._socket.connect(split(address))

    def send(self, data):
        self._socket.sendall(data)

    def read_until(self, mark):
        """What came, up to and with `mark`; all of it where the other side ends before."""
        data = b""
        while mark not in data:
            piece = self._socket.recv(65536)
            if not piece:
                break
            data += piece
        return data

    def read_all(self):
        """Until the other side ends."""
        data = b""
        try:
            while piece := self._socket.recv(1 << 20):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def close(self):
        self._socket.close()
