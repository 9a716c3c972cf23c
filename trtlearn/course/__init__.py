"""The notebooks' side: exercises and their judges, progress, questions, your own model, what this machine can do."""
