"""PanDA's words to ours and back, and our own calls beside them: pure."""
