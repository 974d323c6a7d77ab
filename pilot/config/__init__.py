"""What people write: job files and the pilot's own configuration, read strictly."""
