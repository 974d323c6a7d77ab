"""Makes the data that every bed begins with, and imports the server once, so that its byte code lies ready.

python -m tests.beds.panda_template FOLDER      (by the server's own Python; FOLDER as scripts/get-panda makes it)
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.beds import panda_settings
from tests.beds.panda_postgres import Postgres

TREE = Path(__file__).resolve().parents[2]
PREPARE = "import sys, tests.beds.panda_schema as s; s.main(sys.argv[1]); import tests.beds.panda_app"


def main(folder: Path) -> None:
    postgres = Postgres(folder / "usr", folder / "template")
    postgres.initialise()
    with tempfile.TemporaryDirectory(prefix="panda-", dir="/tmp") as short:
        home = Path(short)
        panda_settings.write(home, home)
        with postgres.serving(home, home / "log" / "postgres.log"):
            subprocess.run(
                [sys.executable, "-c", PREPARE, str(home)],
                env=panda_settings.environment(home, TREE), check=True, timeout=120, stdout=subprocess.DEVNULL,
            )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
