"""Commands and operations: accepting, sending, ending and asking for them."""
