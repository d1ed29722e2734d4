"""Verdicts from evidence: pure functions (observations, plan, prior state) -> (state, verdict, explanation)."""
