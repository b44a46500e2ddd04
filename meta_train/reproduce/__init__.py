"""The experiments of the papers, reproduced: runs, figures, and which claims were seen."""
