"""PanDA's words to ours and back, and the envelope that both kinds of queue speak: pure, strict, bounded."""
