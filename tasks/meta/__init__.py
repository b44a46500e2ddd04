"""Meta-training as a task: what is trained is an update rule, on small quadratics."""
