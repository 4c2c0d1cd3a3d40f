"""What one does with packets, as plain functions and values: no sockets, no clock."""
