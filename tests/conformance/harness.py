"""What the client scripts share: their arguments, their list of checks, and how they say what they saw.

`harness.py` is no script of its own; `.ci/conformance.py` runs every `*_client.py`.
"""

import json
import sys
import time
import traceback
import urllib.error
import urllib.request

BASE = sys.argv[1].rstrip("/")
KEY = (sys.argv[2] if len(sys.argv) > 2 else "") or None
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def health():
    with urllib.request.urlopen(BASE + "/health", timeout=10) as answer:
        return json.load(answer)


def is_mock():
    """The mock has no model: it says the prompt's words back, and thinks and calls when a word tells it to."""
    return health()["architecture"] == "Mock"


def wait_until_ready():
    limit = time.monotonic() + 120
    while True:
        try:
            return health()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > limit:
                sys.exit(f"{BASE} is not ready")
            time.sleep(0.1)


def main(name):
    wait_until_ready()
    failed = 0
    for run in CHECKS:
        begun = time.monotonic()
        try:
            run()
            print(f"ok    {run.__name__} ({time.monotonic() - begun:.2f} s)")
        except Exception:
            failed += 1
            print(f"FAIL  {run.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{name}: {len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)
