"""Models: one small protocol, ``predict_proba(texts) -> {head: array (n, k)}``, and one folder format."""
