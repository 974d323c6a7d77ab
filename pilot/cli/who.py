"""Who runs this command."""

import os
import pwd


def user() -> str:
    """By the system's word, since the environment's may be anybody's; the number where the system knows no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
