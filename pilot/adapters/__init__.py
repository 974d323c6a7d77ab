"""Adapters: one foreign system each, behind a port; none knows another."""
