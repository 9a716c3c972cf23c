"""The training of the course's networks."""
