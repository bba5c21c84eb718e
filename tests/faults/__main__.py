"""Every fault there is a test for, and the table at the end: `python -m tests.faults`."""

import sys

import pytest

sys.exit(
    pytest.main(["tests/faults", "tests/reach", "tests/web_client", "-m", "faults", *sys.argv[1:]])
)
