"""daemon.py [SECONDS]: leaves a daemon behind (double fork, own session, TERM ignored) and exits 0 at once.

The daemon writes its pid into daemon.pid and holds stdout open, to see that nobody waits for that pipe.
"""

import os
import signal
import sys
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("daemon.tmp", "w") as file:
            file.write(f"{os.getpid()}\n")
        os.rename("daemon.tmp", "daemon.pid")
        time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 3600)
    os._exit(0)
os.wait()
while not os.path.exists("daemon.pid"):
    time.sleep(0.005)
print("the daemon is there", flush=True)
