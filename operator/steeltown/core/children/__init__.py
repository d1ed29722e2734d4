"""Builds children as plain objects, and tells which of them must be applied or pruned. Decides nothing."""
