"""The one room that opens raw, packet and carrier sockets, and the fakes that stand in for them."""
