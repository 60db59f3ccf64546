#!/usr/bin/env python3
"""Do unmodified clients of other products work against a live server?

Usage: run.py BINARY [NAME...]     runs test_NAME.py of this folder, or all of them

Each file gets a server of its own with a new database, which is gone afterwards. What a file may have:

    SETTINGS = '''...'''    the server's settings, in TOML; those by default where there are none
    ENVIRONMENT = {...}     variables of the server's environment besides ours

and functions named `test_...(address)`, which are run in their order with the server's address, `http://127.0.0.1:PORT`.
What a function's first line of documentation says is what it proves. A function that raises fails, the others are run still; one that
raises unittest.SkipTest is shown as left out, with its reason.
Exit: 0 where all passed, 1 where one failed, 2 where a client is not installed or the server does not start.
"""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

# No __pycache__ beside the sources.
sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
START_SECONDS = 30


class Server:
    """`quiver serve` on a port that is free, with a database that goes when it does."""

    def __init__(self, binary, settings, environment):
        self.folder = tempfile.TemporaryDirectory(prefix="quiver-clients-")
        folder = pathlib.Path(self.folder.name)
        command = [str(binary), "--db", str(folder / "database"), "serve", "--listen", "127.0.0.1:0"]
        if settings:
            (folder / "settings.toml").write_text(settings, encoding="utf-8")
            command += ["--config", str(folder / "settings.toml")]
        quiver = {name: value for name, value in os.environ.items() if not name.startswith("QUIVER_")}
        self.log = []
        self.address = None
        self.told = threading.Event()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", env=quiver | environment,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.told.wait(START_SECONDS)
        if not self.address:
            self.stop()
            raise RuntimeError("the server did not say where it listens:\n" + "".join(self.log))

    def read(self):
        """Keeps the log, so that the pipe never fills, and finds the address in it."""
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on (https?://\S+)", line)
            if found:
                self.address = found.group(1)
                self.told.set()
        self.told.set()

    def stop(self):
        """Asks it to stop, and makes it where it does not. Gives its exit status."""
        self.process.terminate()
        try:
            status = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.reader.join(timeout=10)
        self.folder.cleanup()
        return status


def load(path):
    """The module of this path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_file(binary, path):
    """Runs one file against a server of its own; gives how many passed and failed."""
    module = load(path)
    tests = [value for name, value in vars(module).items() if name.startswith("test_") and callable(value)]
    if not tests:
        raise RuntimeError(f"{path.name} has no test")
    server = Server(binary, getattr(module, "SETTINGS", ""), getattr(module, "ENVIRONMENT", {}))
    failed = left_out = 0
    print(f"{path.name} ({server.address})", flush=True)
    for test in tests:
        says = (test.__doc__ or test.__name__).strip().splitlines()[0]
        start = time.monotonic()
        try:
            test(server.address)
            print(f"  ok    {says} ({time.monotonic() - start:.1f} s)", flush=True)
        except unittest.SkipTest as reason:
            left_out += 1
            print(f"  -     {says} (left out: {reason})", flush=True)
        except Exception:
            failed += 1
            print(f"  FAIL  {says}\n{traceback.format_exc()}", flush=True)
    status = server.stop()
    if status != 0:
        failed += 1
        print(f"  FAIL  the server stops when it is asked to: it ended with {status}", flush=True)
    if failed:
        print("  the server's last lines:\n" + "".join(server.log[-20:]), flush=True)
    return len(tests), failed, left_out


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    binary = pathlib.Path(sys.argv[1]).resolve()
    # What a proxy would answer says nothing about our server.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]:
        os.environ.pop(name, None)
    paths = [HERE / f"test_{name}.py" for name in sys.argv[2:]] or sorted(HERE.glob("test_*.py"))
    ran = failed = left_out = 0
    for path in paths:
        try:
            of_file = run_file(binary, path)
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{path.name}: {error}", flush=True)
            return 2
        ran, failed, left_out = ran + of_file[0], failed + of_file[1], left_out + of_file[2]
    print(f"{failed} FAILED of {ran}" if failed else f"{ran - left_out} of {ran} passed, {left_out} left out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
