"""What tests need and a machine may lack: a program, a version of it, a binary of this repository.

In CI (`CI=true`, which .ci/run sets after it has installed the programs) a missing one fails the test. Elsewhere the test
is skipped, and the summary of pytest shows the reason.
"""

import os
import shutil

import pytest

IS_CI = os.environ.get("CI", "").lower() in ("1", "true")


def missing(reason):
    """Ends the running test: in CI it fails, elsewhere it is skipped."""
    if IS_CI:
        pytest.fail(f"{reason} (CI is expected to have it)", pytrace=False)
    pytest.skip(reason)


def program(name, package):
    """Returns the path of a program, also from /usr/sbin; ends the test if it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return found or missing(f"{name} is not installed (Debian package: {package})")
