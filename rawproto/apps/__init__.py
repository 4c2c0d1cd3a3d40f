"""Programs over streams: each knows what it says to its like, and nothing of packets."""
