"""What a payload sees of the pilot: one file, bind-mounted read-only beside the user's code."""
