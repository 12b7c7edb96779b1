"""The neutral graph and its passes. Nothing here imports the compiled engine."""
