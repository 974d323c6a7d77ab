"""lie_in_result.py KIND: exits 0 with a result.json that breaks the contract; KIND is a key below, fifo or link."""

import os
import sys

TEXTS = {
    "nan": '{"contract": "1.0", "status": "succeeded", "loss": NaN}',
    "overflow": '{"contract": "1.0", "status": "succeeded", "loss": 1e999}',
    "not-json": "loss: 0.5",
    "version": '{"contract": "2.0", "status": "succeeded"}',
    "status": '{"contract": "1.0", "status": 0, "loss": 0.5}',
    "deep": "[" * 100000,
    "huge": '{"contract": "1.0", "status": "succeeded", "message": "' + "x" * (1 << 22) + '"}',
}
kind = sys.argv[1]
if kind == "fifo":
    os.mkfifo("result.json")
elif kind == "link":
    os.symlink("/etc/passwd", "result.json")
else:
    with open("result.json", "w") as file:
        file.write(TEXTS[kind])
