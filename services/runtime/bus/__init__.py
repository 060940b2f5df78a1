"""The message bus: one client, one consumer loop, the broker's topology, and the embedded broker.

The only home of nats-py and of nkeys.
"""
