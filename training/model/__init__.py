"""What is trained: encoders, heads and losses, and a finished member at work in PyTorch."""
