"""The one process per pilot that outlives a crash of the pilot and owns every payload (standard library alone)."""
