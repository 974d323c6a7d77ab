"""Reads address 0 for real, so that the kernel, not a kill, delivers SIGSEGV."""

import ctypes

print("about to read address 0", flush=True)
ctypes.string_at(0)
