"""Speed and memory beside the bare tools, printed as ratios of one run. Not tests: nothing here fails on time."""
