"""The same update rules in fewer walks over memory: kernels, each with its plain form beside it."""
