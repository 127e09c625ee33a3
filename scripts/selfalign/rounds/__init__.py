"""Rounds of self-alignment: what is watched of each, and when it is the last one."""
