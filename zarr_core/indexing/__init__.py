"""What was written in `[...]`: checked, and made a plan of parts of chunks."""
