"""What runs inside bubblewrap: the fork server and its two cores. Imports nothing but the standard library."""
