"""Does the server answer honest clients while a crowd of others does its worst? And does a bomb cost it memory?

    python3 .ci/server_crowd.py BINARY [CONNECTIONS] [SECONDS]

A quarter each of: heads that never end, bodies that trickle, answers that nobody reads, connections that say nothing.
Loopback only; needs nothing but Python.
"""

import gzip
import http.client
import json
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

HEAD = b"POST /v1/collections/crowd/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def start(binary, folder, *flags):
    command = [binary, "--db", folder, "serve", "--listen", "127.0.0.1:0", "--log-filter", "warn", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "listening on" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(line.strip().rsplit(":", 1)[1])
    raise SystemExit("the server did not start")


def honest(port, seconds):
    """Milliseconds of requests one after the other, each on a connection of its own, and how many failed."""
    times, failed, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/v1/collections")
            response = connection.getresponse()
            response.read()
            failed += response.status != 200
        except OSError:
            failed += 1
        connection.close()
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {
        "requests": len(times),
        "failed": failed,
        "p50_ms": round(times[len(times) // 2], 2),
        "p99_ms": round(times[int(len(times) * 0.99)], 2),
        "max_ms": round(times[-1], 2),
    }


class Crowd(threading.Thread):
    """Keeps so many bad connections open; those that the server closes come again."""

    def __init__(self, port, count):
        super().__init__(daemon=True)
        self.port, self.count, self.ended, self.closed, self.open = port, count, False, 0, {}

    def connect(self, kind):
        one = socket.socket()
        if kind == 2:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.connect(("127.0.0.1", self.port))
        first = [
            b"GET /v1/collections HTTP/1.1\r\nHost: local",
            HEAD + b"Content-Length: 100000\r\n\r\n{",
            b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
            b"",
        ][kind]
        one.setblocking(False)
        try:
            one.send(first)
        except OSError:
            pass
        self.open[one.fileno()] = (one, kind)
        if kind != 2:
            self.poll.register(one, select.POLLIN | select.POLLHUP)

    def run(self):
        self.poll = select.poll()
        for number in range(self.count):
            self.connect(number % 4)
        while not self.ended:
            for number, _ in self.poll.poll(200):
                one, kind = self.open.pop(number)
                self.poll.unregister(one)
                one.close()
                self.closed += 1
                self.connect(kind)
            for one, kind in list(self.open.values())[:: max(1, self.count // 200)]:
                if kind in (0, 1):
                    try:
                        one.send(b"x")
                    except OSError:
                        pass


def memory(process, name):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) // 1024


def bomb(port, process):
    """Ten megabytes of gzip that would be ten gigabytes."""
    member = gzip.compress(b" " * (100 << 20), 9)
    body = member * (-(-(10 << 20) // len(member)))
    before = memory(process, "VmHWM:")
    head = "POST /v1/collections/crowd/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        try:
            one.sendall(head.encode() + body)
        except OSError:
            pass  # The answer may come before all was sent.
        try:
            status = int(one.recv(64)[9:12])
        except (OSError, ValueError):
            status = 0
    grown = memory(process, "VmHWM:") - before
    print(f"bomb of {len(body) >> 20} MiB: {status} in {time.monotonic() - began:.2f} s, peak memory grew {grown} MiB")
    if status != 413 or grown > 256:
        raise SystemExit("the bomb was not stopped")


def expect_crowd(port, count):
    """Ends the run where the server has not nearly the whole crowd: it would be measured without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    there = next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("quiver_http_connections "))
    if there < count * 0.9:
        raise SystemExit(f"the server has {there} connections of a crowd of {count}: there is nothing to measure")


def measure(process, port, count, seconds):
    """The bomb, honest clients alone, and among the crowd."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", "/v1/collections/crowd", "{}", {"Content-Type": "application/json"})
    print("collection:", connection.getresponse().status)
    bomb(port, process)
    alone = honest(port, seconds / 2)
    print("alone ", json.dumps(alone), flush=True)
    crowd = Crowd(port, count)
    crowd.start()
    end = time.monotonic() + 30
    while len(crowd.open) < count and time.monotonic() < end:
        time.sleep(0.05)
    expect_crowd(port, count)
    among = honest(port, seconds)
    expect_crowd(port, count)
    print("among ", json.dumps(among), f"crowd: {len(crowd.open)} open, {crowd.closed} closed by the server")
    print(f"memory {memory(process, 'VmRSS:')} MiB, peak {memory(process, 'VmHWM:')} MiB", flush=True)
    crowd.ended = True
    crowd.join()
    process.terminate()
    code = process.wait(60)
    if code != 0 or among["failed"] or alone["failed"]:
        raise SystemExit(f"exit {code}, failed requests: {among['failed']} among the crowd, {alone['failed']} alone")


def main():
    binary = sys.argv[1]
    count, seconds = int((sys.argv[2:] + ["2000"])[0]), float((sys.argv[3:] + ["20"])[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    with tempfile.TemporaryDirectory() as folder:
        process, port = start(binary, folder + "/quiver.db")
        try:
            measure(process, port, count, seconds)
        finally:
            process.kill()


main()
