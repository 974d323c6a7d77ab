"""Driving: the loop that decides, the crew that does, and what they do it with."""
