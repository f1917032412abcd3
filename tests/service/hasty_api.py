"""`python -m tests.service.hasty_api`: a web service with room for 64 connections, whose timeouts are a few seconds."""

import resource
import sys

from api.__main__ import main
from api.serving.connections import Patience

DESCRIPTORS = 256
CONNECTIONS = 64  # a quarter
HASTE = Patience(head=2.0, body=2.0, answer=4.0)

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS // 2, DESCRIPTORS))
    sys.exit(main(HASTE))
