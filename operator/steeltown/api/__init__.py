"""The custom resources: the one source of `crds/`, and the words that their conditions may use."""
