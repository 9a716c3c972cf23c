"""How the recordings of data/ are made: `python -m recording` on a machine with an NVIDIA GPU. Not
shipped.
"""
