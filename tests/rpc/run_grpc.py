# SPDX-License-Identifier: Apache-2.0
"""Runs test_grpc.py against the server program given, or says that it cannot."""

import os
import pathlib
import sys

try:
    import google.protobuf  # noqa: F401
    import grpc  # noqa: F401
    import pytest
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

os.environ["GRPC_SERVER"] = sys.argv[1]
here = pathlib.Path(__file__).parent
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", str(here / "test_grpc.py")]))
