#!/bin/sh
# Does nothing for ever: walltime, cancellation, stalled-job rules.
echo ready
while :; do sleep 3600; done
