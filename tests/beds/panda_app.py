"""PanDA's server behind gunicorn: its own WSGI application, untouched, and the bed's calls under /bed/.

gunicorn differs from Apache in three words of the environment: the application wants the whole path as SCRIPT_NAME, a
CONTENT_LENGTH always, and the caller's distinguished name as Apache's mod_ssl gives it.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.beds import panda_idds, panda_stand_ins

panda_stand_ins.install()
panda_idds.install()

from pandaserver.api.v1 import credential_management_api as credentials  # noqa: E402
from pandaserver.server import panda  # noqa: E402

Reply = Callable[[str, list[tuple[str, str]]], object]
CACHE = Path(os.environ["BED_CACHE"])
# Proxies and tokens that the server's daemons fetch lie in /tmp/proxies, whatever its configuration says; here, in the
# bed's own folder.
credentials.global_proxy_cache._MyProxyInterface__target_path = str(CACHE.parent / "proxies")
credentials.global_token_cache.target_path = str(CACHE.parent / "proxies")
NAMES = {
    "countryName": "C",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "commonName": "CN",
    "domainComponent": "DC",
}


def application(environ: dict[str, Any], start_response: Reply) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/bed/"):
        return bed(path.removeprefix("/bed/"), environ, start_response)
    if path.startswith("/cache/"):
        return static(path.removeprefix("/cache/"), start_response)
    environ.update(SCRIPT_NAME=path, PATH_INFO="", CONTENT_LENGTH=environ.get("CONTENT_LENGTH") or "0")
    # Never taken from a header of the caller's: only TLS, or the plain listener's own setting, says who calls.
    name = certificate_name(environ) or os.environ.get("BED_PLAIN_DN", "")
    if name and "HTTP_AUTHORIZATION" not in environ:
        environ["SSL_CLIENT_S_DN"] = name
    return panda.application(environ, start_response)  # type: ignore[no-any-return]


def certificate_name(environ: dict[str, Any]) -> str:
    socket = environ.get("gunicorn.socket")
    subject = (socket.getpeercert() or {}).get("subject", ()) if hasattr(socket, "getpeercert") else ()
    return "".join(f"/{NAMES.get(key, key)}={value}" for part in subject for key, value in part)


def static(name: str, start_response: Reply) -> Iterable[bytes]:
    file = (CACHE / name).resolve()
    if not file.is_relative_to(CACHE) or not file.is_file():
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such file"]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [file.read_bytes()]


# --- the bed's own calls: what tests ask of the server's package directly --------------------------------------


def bed(verb: str, environ: dict[str, Any], start_response: Reply) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    arguments = json.loads(body) if body else {key: each[0] for key, each in parse_qs(environ["QUERY_STRING"]).items()}
    answer = VERBS[verb](**arguments)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer, default=str).encode()]


def submit(job: dict[str, Any], files: list[dict[str, Any]]) -> int:
    """As JEDI submits: the package's own storing of jobs, then its set-up, which activates them."""
    from pandaserver.taskbuffer.FileSpec import FileSpec
    from pandaserver.taskbuffer.JobSpec import JobSpec

    spec = JobSpec()
    for name, value in job.items():
        setattr(spec, name, value)
    for each in files:
        file = FileSpec()
        for name, value in each.items():
            setattr(file, name, value)
        spec.addFile(file)
    dn = os.environ.get("BED_PLAIN_DN", "/CN=Robot Pilot")
    stored = panda.taskBuffer.storeJobs([spec], dn, fqans=[], hostname="bed", userVO="wlcg")
    return int(stored[0][0])


def adder(job_id: int) -> str:
    """What the server's `add_main` daemon does with the report of one job."""
    from pandaserver.dataservice.adder_gen import AdderGen

    status = execute("SELECT jobStatus, attemptNr FROM DOMA_PANDA.Job_Output_Report WHERE PandaID = %s", [job_id])
    if not status:
        return "no report of that job waits"
    job_status, attempt = status[0].values()
    AdderGen(panda.taskBuffer, job_id, job_status, attempt, lock_pool=None).run()
    return str(job_status)


def execute(sql: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
    import psycopg2
    import psycopg2.extras
    from pandaserver.config import panda_config

    with psycopg2.connect(
        host=panda_config.dbhost, port=panda_config.dbport, user="panda", dbname="postgres"
    ) as connection:
        connection.autocommit = True
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values)
            rows = [dict(row) for row in cursor.fetchall()] if cursor.description else []
    connection.close()
    return rows


VERBS: dict[str, Callable[..., Any]] = {"submit": submit, "adder": adder, "execute": execute}
