"""From verified responses to training pairs, and to pairs of a passing and a failing response."""
