"""Studies of what models and labels are worth, each a command that measures on a store and may write a section of a document."""
