#!/bin/sh
# Outputs that are no plain files: a FIFO, a socket-like device path, a directory, a name with a line break.
mkfifo output.txt
mkdir -p output.dir
: > "two
lines.txt"
