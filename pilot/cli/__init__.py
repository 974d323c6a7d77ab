"""The command line: noun, then verb; each command in a module of its own, imported when it is used."""
