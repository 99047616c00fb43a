"""Models of the device protocols (docs/protocols.md): small state machines, every state of which can be visited."""
