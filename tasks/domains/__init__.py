"""The rows of the zoo, a module for each domain; see `tasks.catalogue`."""
