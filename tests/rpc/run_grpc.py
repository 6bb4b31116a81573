# SPDX-License-Identifier: Apache-2.0
"""Runs the tests beside it with the server and client programs given, or says that it cannot."""

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

os.environ["GRPC_SERVER"], os.environ["GRPC_CLIENT"] = (os.path.abspath(path) for path in sys.argv[1:3])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", str(pathlib.Path(__file__).parent)]))
