"""The read model: what a transaction of frames does to the rows."""
