"""The vocabulary: frozen values, before any behaviour."""
