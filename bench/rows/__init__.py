"""The comparisons, a module for each step; ``measured(place)`` yields those of a module, as a `Comparison` or a row."""
