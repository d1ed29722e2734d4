"""Children as they should be: pure builders from a version and a policy to complete intents."""
