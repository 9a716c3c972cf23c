"""The exercises of each notebook: texts in chNN.json, judges and pictures in chNN.py."""

from functools import cache

from ...networks import Network, network


@cache
def recorded(name: str) -> Network:
    """A network of the course, with its recordings."""
    return network(name, mode="recorded")
