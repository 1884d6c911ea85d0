"""Speed and memory beside the bare tools and peers, as ratios of one run. Not tests: nothing here fails on time."""
