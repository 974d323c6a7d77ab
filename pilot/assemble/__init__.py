"""The composition roots: the only rooms that name adapters. One module puts together one thing."""
