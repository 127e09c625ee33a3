"""A finished run kept as one file, checked, compared with others, and each of its rows led back to its source."""
