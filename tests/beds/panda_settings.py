"""What PanDA's server is told about the world: its own folder, this socket, and nothing beyond loopback."""

import json
from pathlib import Path

# A distinguished name with one of these words may do what a pilot may.
PRODUCTION = "Robot,Pilot"

SERVER = """[server]
logdir={home}/log
loggername=prod
cache_dir={home}/cache
home_dir_cwd={home}
native_python={home}
dbhost={sockets}
dbport=5432
dbuser=panda
dbpasswd=none
dbname=postgres
backend=postgres
nDBConnection=1
usedbtimeout=True
dbtimeout=30
dbbridgeverbose=False
dump_sql=False
cursor_dump=False
schemaPANDA=DOMA_PANDA
schemaMETA=DOMA_PANDAMETA
schemaPANDAARCH=DOMA_PANDAARCH
schemaJEDI=DOMA_PANDA
schemaDEFT=DOMA_DEFT
pserverhost=127.0.0.1
pserverport=9
pserverporthttp=9
pserverportcache=9
pserveralias=127.0.0.1
keyDir={home}/keys
emailSMTPsrv=127.0.0.1
emailSender=nobody@example.invalid
emailLogin=nobody
emailPass=none
pandaProxy_URLSSL=https://127.0.0.1:9/proxy
pandaProxy_ca_certs={home}/none
endpoint_mapfile={home}/none
certdir={home}/none
entryVerbose=False
record_statuschange=True
useJEDI=True
adder_plugins=wlcg:pandaserver.dataservice.adder_dummy_plugin:AdderDummyPlugin
setupper_plugins=wlcg:pandaserver.dataservice.setupper_dummy_plugin:SetupperDummyPlugin
closer_plugins=
production_dns={production}
token_authType=oidc
token_issuers=
token_audience=
token_cache_config={home}/token_cache.json
auth_config={home}/auth/
legacy_token_issuers=None

[daemon]
enable=False
"""

COMMON = """[logger]
loghost=127.0.0.1
monport-apache=9
method=GET
encoding=url
loghost_new=127.0.0.1
monport-apache_new=9
method_new=POST
encoding_new=json
monurlprefix=/logger
logdir={home}/log
nemitters=1
migrated=True
log_level=INFO
"""

NOWHERE = "http://127.0.0.1:9/server/panda"
PINNED = (
    "PANDA_URL", "PANDA_URL_SSL", "PANDA_API_URL", "PANDA_API_URL_SSL", "PANDACACHE_URL", "PANDAMON_URL", "IDDS_HOST",
)  # fmt: skip


def write(home: Path, sockets: Path) -> None:
    """Everything under `home`, which is PANDA_HOME and HOME of the server."""
    for each in ("etc/panda", "log", "cache", "auth", "keys"):
        (home / each).mkdir(parents=True, exist_ok=True)
    values = {"home": home, "sockets": sockets, "production": PRODUCTION}
    (home / "etc/panda/panda_server.cfg").write_text(SERVER.format(**values))
    (home / "etc/panda/panda_common.cfg").write_text(COMMON.format(**values))
    # The name under which it keeps tokens for pilots, as every PanDA client has it.
    (home / "token_cache.json").write_text(json.dumps({"pilot_server": {"use_token_key": True}}))
    (home / "rucio.cfg").write_text("[client]\nrucio_host = http://127.0.0.1:9\nauth_host = http://127.0.0.1:9\n")


def environment(home: Path, tree: Path, name: str = "") -> dict[str, str]:
    """Of the server's processes; `name` is who calls where no certificate and no token says it."""
    pinned = dict.fromkeys(PINNED, NOWHERE)
    places = {
        "HOME": str(home),
        "PANDA_HOME": str(home),
        "RUCIO_CONFIG": str(home / "rucio.cfg"),
        "PATH": "/usr/bin:/bin",
    }
    bed = {"BED_CACHE": str(home / "cache"), "BED_PLAIN_DN": name, "PYTHONPATH": str(tree), "TZ": "UTC"}
    return {**pinned, **places, **bed, "LC_ALL": "C.UTF-8", "NO_PROXY": "*"}
