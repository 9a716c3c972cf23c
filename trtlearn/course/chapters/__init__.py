"""The exercises of each notebook: chNN.py holds those of notebook NN."""
