"""Prints what a log must not pass on: ANSI, title changes, NUL, bell, bidi controls, bad UTF-8, a very long line."""

import sys

out = sys.stdout.buffer
out.write(b"\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x1b[2J\x1b[1;1H \x00nul \x07bell \x08\x08back\r overwritten\n")
out.write('bidi \u202egnp.exe \u2066x\u2069, fake line:\u2028{"level": "error"}\n'.encode())
out.write(b"bad utf-8 \xff\xfe\xc3\x28 and an 8-bit escape \x9b31m\n")
out.write(b"long " + b"y" * (1 << 20) + b"\n")
out.write(b"no line break at the end")
sys.stderr.buffer.write(b"\x1b[5mblinking\x1b[0m\n")
