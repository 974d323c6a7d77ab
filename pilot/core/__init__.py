"""Decisions: pure functions of values. No clock, file, socket, process, thread, log or chance."""
