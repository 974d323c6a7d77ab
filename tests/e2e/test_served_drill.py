"""`pilot queue serve` killed with -9 under load: no claim lost, none doubled, the file sound.

`PILOT_SERVE_KILLS=N` sets how many kills (scripts/soak: 100), `PILOT_DRILL_SEED=N` repeats a run.
"""

import os
import random
import sqlite3
from pathlib import Path

import pytest

from tests.drills.served import ServedDrill

KILLS = int(os.environ.get("PILOT_SERVE_KILLS", "10"))
SEED = int(os.environ.get("PILOT_DRILL_SEED") or random.SystemRandom().randrange(1 << 32))
pytestmark = pytest.mark.drill


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    drill = ServedDrill(tmp_path, SEED)
    assert drill.run(KILLS) == [], f"PILOT_DRILL_SEED={SEED}"
    assert drill.lives == KILLS + 1
    assert len(drill.told.grants) > KILLS


def test_the_drill_sees_what_is_lost_and_what_is_doubled(tmp_path: Path) -> None:
    drill = ServedDrill(tmp_path, SEED)
    assert drill.run(1) == []
    with sqlite3.connect(drill.path) as db:
        (job_id, job) = db.execute("SELECT job_id, job.job FROM job JOIN report ON report.job = job.job").fetchone()
        db.execute("DELETE FROM report WHERE job = ?", (job,))
        (claim_id,) = db.execute("SELECT claim_id FROM granted WHERE job IS NOT NULL ORDER BY claim_id").fetchone()
        db.execute("UPDATE granted SET claim_id = 'somebody' WHERE claim_id = ?", (claim_id,))
    db.close()
    said = "\n".join(drill._compare())
    assert f"{job_id}: reports []" in said
    assert "somebody" in said
    assert claim_id in said
