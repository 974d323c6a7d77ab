#!/bin/sh
# die_of.sh SIGNAL: the payload's main process dies of that signal (SEGV, ABRT, KILL, ...).
kill -s "${1:-SEGV}" $$
