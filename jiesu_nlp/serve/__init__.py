"""The HTTP wrapper: the library's answers, served with limits; see ``docs/http.md``."""
