"""What it adds up to: folds, read models, rebuild, verify."""
