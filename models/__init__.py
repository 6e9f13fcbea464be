"""What a relation is and what predicts it: the one core that training, export, scoring and the API stand on.

Imports neither PyTorch nor transformers nor anything of HTTP, so that serving installs none of what it does not need.
"""
