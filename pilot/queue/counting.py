"""Whether what the queue keeps count of agrees with its rows: lanes, shares, tally."""

import sqlite3

LANES = """
SELECT queue || '/' || shape, lane.waiting, (SELECT count(*) FROM job WHERE job.queue = lane.queue
    AND job.shape = lane.shape AND state = 'waiting' AND blockers = 0 AND not_before IS NULL) AS counted
FROM lane WHERE waiting != counted
"""
SHARES = """
SELECT queue || '/' || owner, running, (SELECT ifnull(sum(weight), 0) FROM job JOIN shape USING (shape)
    WHERE state = 'granted' AND job.queue = share.queue AND job.owner = share.owner) AS counted
FROM share WHERE running != counted
"""
TALLY = """
SELECT each, sum(kept), sum(counted) FROM (
    SELECT queue || '/' || owner || '/' || state || '/' || verdict AS each, jobs AS kept, 0 AS counted FROM tally
    UNION ALL SELECT queue || '/' || owner || '/' || state || '/' || verdict, 0, count(*) FROM job
    GROUP BY queue, owner, state, verdict
) GROUP BY each HAVING sum(kept) != sum(counted)
"""


def differences(db: sqlite3.Connection) -> list[str]:
    """What is not as it is counted, one line each."""
    found = []
    for name, text in (("lane", LANES), ("share", SHARES), ("tally", TALLY)):
        found += [f"{name} {row[0]}: {row[1]} noted, {row[2]} counted" for row in db.execute(text)]
    return found
