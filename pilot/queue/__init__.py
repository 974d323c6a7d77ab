"""The embedded queue: one SQLite file, shared by pilots and users of one machine."""
