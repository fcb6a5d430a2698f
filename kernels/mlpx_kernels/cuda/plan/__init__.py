"""A network on the device: prediction in one launch, batch gathering, graph capture."""
