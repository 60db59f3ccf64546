#!/usr/bin/env python3
"""Does a live server keep to its own OpenAPI document? Asks it with schemathesis, for at most three minutes.

    python3 .ci/schema.py http://127.0.0.1:7333 [--key KEY] [--examples N] [--include REGEX]

Needs `pip install schemathesis`. The server's database is written to: give it one of its own.
Ends with 0 where there is no 5xx and no answer that the document does not describe.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

SECONDS_MAX = 180
# Questions go to a collection that is there, or all would end with 404.
SETTINGS = '''
[[operations]]
include-path-regex = "/(search|batch|context|import|reembed)$"
parameters = { "path.collection" = "notes" }
'''


def ask(base, path, key, method="GET", body=None):
    headers = {"Content-Type": "application/json"} | ({"api-key": key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--key")
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--include", help="only paths that match")
    arguments = parser.parse_args()
    base = arguments.address.rstrip("/")
    # Something to find, where those routes are there already; what is asked by chance goes on without it.
    ask(base, "/v1/collections/notes", arguments.key, "PUT", {})
    ask(base, "/v1/collections/notes/documents", arguments.key, "POST", {"id": "a", "text": "Pears ripen."})
    beside = Path(sys.executable).with_name("schemathesis")
    program = str(beside) if beside.exists() else shutil.which("schemathesis")
    if program is None:
        sys.exit("schemathesis is not there: pip install schemathesis")
    settings = tempfile.NamedTemporaryFile("w", suffix=".toml")
    settings.write(SETTINGS)
    settings.flush()
    command = [
        program,
        f"--config-file={settings.name}",
        "run",
        base + "/openapi.json",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={arguments.examples}",
        "--continue-on-failure",
        "--generation-deterministic",
        "--request-timeout=20",
        # A filter's grammar, a model's name and a vector's length are no part of a JSON schema, so what the document allows
        # may still be refused with 400.
        "--exclude-checks=positive_data_acceptance",
        # Their stream ends when a job does; the tests read it.
        "--exclude-path-regex=/events$",
    ]
    if arguments.key:
        command.append(f"--header=api-key: {arguments.key}")
    if arguments.include:
        command.append(f"--include-path-regex={arguments.include}")
    try:
        # It keeps files where it runs; its report is enough.
        with tempfile.TemporaryDirectory() as folder:
            status = subprocess.run(command, timeout=SECONDS_MAX, cwd=folder).returncode
    except subprocess.TimeoutExpired:
        sys.exit(f"not done within {SECONDS_MAX} s; ask for fewer with --examples")
    alive = ask(base, "/healthz", None)
    if alive != 200:
        sys.exit(f"the server does not answer any more: {alive}")
    sys.exit(status)


if __name__ == "__main__":
    main()
