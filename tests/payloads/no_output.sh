#!/bin/sh
# Ends well without writing what it promised.
echo "all done, honestly"
