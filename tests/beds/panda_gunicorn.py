"""How gunicorn serves PanDA's application; TLS where BED_TLS names a file with key and certificate."""

import os
import ssl
from collections.abc import Callable
from typing import Any

workers = 1
threads = 6
worker_class = "gthread"
graceful_timeout = 1
timeout = 120
keepalive = 30
control_socket_disable = True
worker_tmp_dir = os.environ["HOME"]
accesslog = worker_tmp_dir + "/log/access.log"
access_log_format = "%(r)s %(s)s"

if os.environ.get("BED_TLS"):
    certfile = keyfile = os.environ["BED_TLS"]
    ca_certs = os.environ["BED_CA"]
    cert_reqs = ssl.CERT_OPTIONAL


def ssl_context(_: Any, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Clients may come with a proxy of their certificate, as pilots do."""
    made = make()
    made.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
    return made
