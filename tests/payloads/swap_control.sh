#!/bin/sh
# swap_control.sh TARGET: puts a link in place of control/, checkpoint/ and events.jsonl: the pilot must not write through it.
rm -rf control checkpoint events.jsonl
ln -s "${1:-/tmp}" control
ln -s "${1:-/tmp}" checkpoint
ln -s "${1:-/tmp}/events" events.jsonl
echo ready
while :; do sleep 3600; done
