"""The documents that a base model is asked to continue, and the reading of what it wrote."""
