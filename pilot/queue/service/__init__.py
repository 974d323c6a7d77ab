"""The embedded queue served over HTTPS: our own calls and PanDA's over one queue file."""
