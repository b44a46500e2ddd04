"""How fast meta-training is on this machine, and what its parts and estimators cost."""
