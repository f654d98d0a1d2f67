"""The comparisons, a module for each step; ``measured(place)`` yields those of a module, and tables that it filled itself."""
