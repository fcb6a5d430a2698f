"""Model files: safetensors with a JSON header, written whole or not at all, read as hostile."""
