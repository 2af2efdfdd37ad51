"""The policy and value network, its weights as buffers. No Ray."""
