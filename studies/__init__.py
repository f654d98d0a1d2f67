"""Studies of what models, features and labels are worth, and of what corrections cost, each a command that measures on a store and may write a section of a document."""
