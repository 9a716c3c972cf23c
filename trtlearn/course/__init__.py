"""The notebooks' side: exercises, progress, questions, your own model, this machine."""
