"""Gates: ordered chains of small pure rules. The first rule that speaks is the condition."""
