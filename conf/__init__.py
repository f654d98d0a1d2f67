"""Settings, the one base exception, and the files that servers start from: everything the rest is told from outside."""
