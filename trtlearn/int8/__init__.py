"""Eight bits in numpy: numbers, integer layers and whole networks in INT8."""
