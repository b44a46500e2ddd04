"""Problems of sets and of graphs that are drawn by key: what has no order."""
