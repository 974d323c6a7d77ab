"""save_and_stop.py STEPS [SECONDS_PER_STEP]: counts; saves a generation and exits 85 on PREEMPT.json or SIGTERM.

Resumes where the last generation stood. counted.txt at the end holds one line per step, whatever the interruptions.
"""

import sys
import time

import pilot_payload

steps, pause = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.02
pilot_payload.stop_on_signals()
before = pilot_payload.latest()
counted = (before.path / "counted.txt").read_text().splitlines() if before else []
print(f"starting at step {len(counted)}", flush=True)
while len(counted) < steps:
    time.sleep(pause)
    counted.append(str(len(counted)))
    pilot_payload.progress(step=len(counted), steps_total=steps, metrics={"loss": 1.0 / len(counted)})
    if pilot_payload.should_checkpoint():
        with pilot_payload.checkpoint(step=len(counted)) as directory:
            (directory / "counted.txt").write_text("\n".join(counted) + "\n")
    if pilot_payload.should_stop():
        pilot_payload.leave()
with open("counted.txt", "w") as file:
    file.write("\n".join(counted) + "\n")
pilot_payload.result(loss=1.0 / steps)
