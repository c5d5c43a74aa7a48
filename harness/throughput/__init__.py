"""How fast a trained detector is: protocol lane-latency/1 and its short form, each measurement in the process that asks for it."""
