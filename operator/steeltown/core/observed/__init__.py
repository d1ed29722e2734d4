"""What the cluster shows, read once: the model with its versions, Pods and what they say, Jobs and how they ended."""
